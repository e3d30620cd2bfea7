"""The command ``yuanlian``. CONTRACT §1."""

from __future__ import annotations

import asyncio
import sys
import tomllib
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from pydantic import ValidationError as SettingsError

from yuanlian.runtime import memory
from yuanlian.runtime.settings import FILE, PREFIX, Settings

app = typer.Typer(
    help="园联 Yuanlian: the unified kindergarten management platform.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
dead_letters = typer.Typer(help="Messages that a consumer has given up on.", no_args_is_help=True)
app.add_typer(dead_letters, name="dead-letters")
tenants = typer.Typer(help="The kindergartens of this installation, and who runs it.")
app.add_typer(tenants, name="tenants")

running = typer.Typer(help="Parts of the platform in processes of their own.", no_args_is_help=True)
app.add_typer(running, name="run")

routes = typer.Typer(help="Where the gateway sends requests.")
app.add_typer(routes, name="routes")

RoutesFile = Annotated[Path | None, typer.Argument(metavar="FILE", help="A table of routes.")]
WORKERS_OF_A_SERVICE = "Processes of this service, on PORT, PORT+1, …; so are their admin ports."
DataDir = Annotated[Path | None, typer.Option("--data-dir", help="Where everything is kept.")]


def main() -> None:
    app()


@app.command()
def up(
    demo: Annotated[bool, typer.Option("--demo", help="Load two invented kindergartens.")] = False,
    host: Annotated[str | None, typer.Option(help="Public address.")] = None,
    port: Annotated[int | None, typer.Option(help="Public port; 0 takes a free one.")] = None,
    admin_port: Annotated[int | None, typer.Option(help="Port for metrics and health.")] = None,
    data_dir: DataDir = None,
) -> None:
    """Run the whole platform in this process."""
    memory.start_up()
    from yuanlian.runtime import embedded_command

    settings = _settings(host=host, port=port, admin_port=admin_port, data_dir=data_dir)
    _refuse_demo_in_production(settings, demo=demo)
    _refusing(lambda: embedded_command.up(settings, demo=demo))


@running.command("gateway")
def run_gateway(
    host: Annotated[str | None, typer.Option(help="Public address.")] = None,
    port: Annotated[int | None, typer.Option(help="Public port; 0 takes a free one.")] = None,
    admin_port: Annotated[int | None, typer.Option(help="Port for metrics and health.")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes that share the port.")] = None,
    data_dir: DataDir = None,
) -> None:
    """Run the gateway alone, in front of services over HTTP (YUANLIAN_UPSTREAMS)."""
    memory.start_up()
    from yuanlian.runtime import run_command

    options = {"host": host, "port": port, "admin_port": admin_port, "workers": workers, "data_dir": data_dir}
    settings = _settings(**options)
    _refusing(lambda: run_command.gateway(settings))


@running.command("services")
def run_services(
    demo: Annotated[bool, typer.Option("--demo", help="Load two invented kindergartens.")] = False,
    host: Annotated[str | None, typer.Option(help="Internal address.")] = None,
    port: Annotated[int | None, typer.Option(help="Internal port; 0 takes a free one.")] = None,
    admin_port: Annotated[int | None, typer.Option(help="Port for metrics and health.")] = None,
    data_dir: DataDir = None,
) -> None:
    """Run all services and /ws in this process, for gateways in others."""
    memory.start_up()
    from yuanlian.runtime import run_command

    settings = _settings(
        services_host=host, services_port=port, services_admin_port=admin_port, data_dir=data_dir
    )
    _refuse_demo_in_production(settings, demo=demo)
    _refusing(lambda: run_command.services(settings, demo=demo))


def _run_service(name: str) -> None:
    def run_service(
        demo: Annotated[bool, typer.Option("--demo", help="Load two invented kindergartens.")] = False,
        host: Annotated[str | None, typer.Option(help="Internal address.")] = None,
        port: Annotated[int | None, typer.Option(help="Internal port; 0 takes a free one.")] = None,
        admin_port: Annotated[int | None, typer.Option(help="Port for metrics and health.")] = None,
        workers: Annotated[int | None, typer.Option(help=WORKERS_OF_A_SERVICE)] = None,
        data_dir: DataDir = None,
        replica: Annotated[bool, typer.Option("--replica", hidden=True)] = False,
    ) -> None:
        memory.start_up()
        options = {"services_host": host, "services_port": port, "services_admin_port": admin_port}
        settings = _settings(**options, workers=workers, data_dir=data_dir)
        _refuse_demo_in_production(settings, demo=demo)
        if settings.workers > 1 and not replica:
            from yuanlian.runtime import replicas  # and not what only its workers need

            _refusing(lambda: replicas.run(name, settings, demo=demo))
            return
        from yuanlian.runtime import run_command

        _refusing(lambda: run_command.service(name, settings, demo=demo, replica=replica))

    running.command(name, help=f"Run the {name} service, in this process or in several.")(run_service)


for _name in ("auth", "tenant", "notification", "analytics"):
    _run_service(_name)


@app.command()
def check(data_dir: DataDir = None) -> None:
    """Print every setting and where it came from, and whether everything needed is there."""
    from yuanlian.runtime import check as checking

    options = () if data_dir is None else ("data_dir",)
    _say_no_more_than_warnings()
    sys.exit(checking.check(_settings(data_dir=data_dir), options))


@app.command()
def migrate(data_dir: DataDir = None) -> None:
    """Bring the database to the schema of this release. A start does that too."""
    from yuanlian.runtime import operations

    _run(operations.migrate, _settings(data_dir=data_dir))


@routes.callback(invoke_without_command=True)
def show_routes(context: typer.Context, data_dir: DataDir = None) -> None:
    """Print the gateway's routing table, or do what the command after it says."""
    if context.invoked_subcommand is None:
        from yuanlian.runtime import routes_command

        _run(routes_command.show, _settings(data_dir=data_dir))


@routes.command("check")
def check_routes(file: RoutesFile = None) -> None:
    """Say by line what is wrong with a table, and which of its routes no request can reach. Without
    FILE, the table in use. Exit status 1 when there is an error."""
    from yuanlian.runtime import routes_command

    _run(routes_command.check, _settings(), file)


@routes.command("match")
def match_route(
    method: Annotated[str, typer.Argument(help="GET, POST, …")],
    path: Annotated[str, typer.Argument(help="As in a request: /api/tenant/students")],
    file: Annotated[Path | None, typer.Option("--file", help="This table instead of the one in use.")] = None,
) -> None:
    """Say which route takes a request, and why each other that fits does not. Exit status 1 when none
    does."""
    from yuanlian.runtime import routes_command

    _run(routes_command.match, _settings(), method.upper(), path, file)


@tenants.callback(invoke_without_command=True)
def show_tenants(context: typer.Context, data_dir: DataDir = None) -> None:
    """List the kindergartens of this installation, or do what the command after it says."""
    context.obj = data_dir
    if context.invoked_subcommand is None:
        list_tenants(context)


@tenants.command("list")
def list_tenants(context: typer.Context, data_dir: DataDir = None) -> None:
    """List the kindergartens of this installation."""
    from yuanlian.runtime import operations

    _run(operations.show_tenants, _settings(data_dir=data_dir or context.obj))


@tenants.command("create-operator")
def create_operator(
    context: typer.Context,
    username: str,
    name: Annotated[str, typer.Option(help="What to call the person.")] = "平台管理员",
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the password from standard input.")
    ] = False,
    data_dir: DataDir = None,
) -> None:
    """Add an account that administers the platform. With SQLite, while the platform is stopped."""
    from yuanlian.runtime import operators

    if password_stdin:
        password = sys.stdin.readline().rstrip("\r\n")
    else:
        password = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
    settings = _settings(data_dir=data_dir or context.obj)
    _run(operators.create_operator, settings, username, password, name)


@dead_letters.command("list")
def list_dead_letters(
    queue: Annotated[str | None, typer.Option(help="Only this queue.")] = None,
    data_dir: DataDir = None,
) -> None:
    """Newest first, with the reason."""
    from yuanlian.runtime import operations

    _run(operations.show_dead_letters, _settings(data_dir=data_dir), queue)


@dead_letters.command("replay")
def replay_dead_letters(
    ids: Annotated[list[int] | None, typer.Argument(help="Numbers from `list`.")] = None,
    queue: Annotated[str | None, typer.Option(help="Everything in this queue.")] = None,
    data_dir: DataDir = None,
) -> None:
    """Put messages back into the queue they died in. The running platform picks them up."""
    from yuanlian.runtime import operations

    if not ids and queue is None:
        _fail("name the messages, or a --queue")
    _run(operations.replay_dead_letters, _settings(data_dir=data_dir), ids or [], queue)


def _refuse_demo_in_production(settings: Settings, *, demo: bool) -> None:
    if demo and settings.env == "production":
        _fail("--demo has published passwords and is refused when YUANLIAN_ENV=production")


def _refusing(start: Callable[[], None]) -> None:
    """Runs until the end, or says in one line why it could not start; nothing is left running then."""
    from yuanlian.runtime.refusals import REFUSALS

    try:
        start()
    except REFUSALS as error:
        _fail(str(error))


def _run(operation: Callable[..., Coroutine[Any, Any, None]], *arguments: Any) -> None:
    from sqlalchemy.exc import DBAPIError  # with what an operation imports, not with every `--help`

    from yuanlian.kit.database.database import DatabaseRefusedError
    from yuanlian.kit.errors import ServiceUnavailableError
    from yuanlian.kit.messaging.bus import BusError
    from yuanlian.runtime.datadir import DataDirHeldError
    from yuanlian.runtime.operations import NothingThereError
    from yuanlian.runtime.routing import RoutesRefusedError
    from yuanlian.runtime.schema import SchemaError

    _say_no_more_than_warnings()
    try:
        asyncio.run(operation(*arguments))
    except (
        NothingThereError,
        DataDirHeldError,
        RoutesRefusedError,
        SchemaError,
        BusError,
        ServiceUnavailableError,
        ValueError,
        OSError,
    ) as error:
        _fail(str(error))
    except DatabaseRefusedError as error:
        _fail(f"database: {error}")
    except DBAPIError as error:
        _fail(f"database: {error.orig}")


def _say_no_more_than_warnings() -> None:
    """Standard output is for what was asked for."""
    from yuanlian.kit.observe.logs import configure

    configure("yuanlian", "warn", sys.stderr, console=True)


def _settings(**options: Any) -> Settings:
    """Options given on the command line come before environment and file."""
    try:
        return Settings(**{name: value for name, value in options.items() if value is not None})
    except SettingsError as error:
        for problem in error.errors(include_input=False, include_url=False):
            where = ".".join(str(part) for part in problem["loc"])
            name = f"{PREFIX}{where.upper()}: " if where else ""
            typer.echo(f"yuanlian: {name}{problem['msg']}", err=True)
        sys.exit(1)
    except tomllib.TOMLDecodeError as error:
        _fail(f"{FILE}: {error}")


def _fail(message: str) -> NoReturn:
    typer.echo(f"yuanlian: {message}", err=True)
    sys.exit(1)


if __name__ == "__main__":
    main()
