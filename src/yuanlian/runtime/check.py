"""``yuanlian check``: would the platform start with these settings, and do its servers answer?"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from functools import partial

from pydantic import SecretStr
from sqlalchemy.exc import SQLAlchemyError

from yuanlian.gateway.certificates import CertificateError
from yuanlian.gateway.routes import DEFAULT_ROUTES
from yuanlian.gateway.tls import Tls
from yuanlian.kit.clock import SystemClock
from yuanlian.kit.database.database import DatabaseUnavailableError
from yuanlian.kit.database.sqlite import SqliteDatabase
from yuanlian.runtime import servers
from yuanlian.runtime.console import console, say, table
from yuanlian.runtime.routing import RoutesRefusedError, RoutesSource
from yuanlian.runtime.schema import HEAD, is_known, revision_of
from yuanlian.runtime.service_wiring import refuse_embedded
from yuanlian.runtime.settings import (
    PREFIX,
    Settings,
    UnsupportedSettingError,
    origins,
    unknown_variables,
)
from yuanlian.runtime.wiring import refuse_unsupported

MAIL_TIMEOUT_S = 5.0


class UnfitError(Exception):
    """The platform could not start, or could not do its work."""


def check(settings: Settings, options: Collection[str]) -> int:
    """Prints settings with their source, secrets masked, and one line per part; 1 when one is unfit.

    ``options``: the settings given on the command line.
    """
    _show_settings(settings, options)
    for name in unknown_variables():
        say(f"note  {name} is in the environment, but there is no such setting", "yellow")
    return asyncio.run(_ask_all(settings))


def _show_settings(settings: Settings, options: Collection[str]) -> None:
    found = table("setting", "value", "from")
    origin = origins(options)
    for name in Settings.model_fields:
        found.add_row(PREFIX + name.upper(), _shown(getattr(settings, name)), origin[name])
    console().print(found)


def _shown(value: object) -> str:
    if value is None or value in ((), {}):
        return "-"
    if isinstance(value, SecretStr):
        return servers.MASK
    return servers.masked(", ".join(value) if isinstance(value, tuple) else str(value))


async def _ask_all(settings: Settings) -> int:
    parts: dict[str, Callable[[Settings], Awaitable[str]]] = {
        "settings": _ask_settings,
        "database": _ask_database,
        **{name: partial(_ask_server, name) for name in servers.asked(settings) if name != "database_url"},
        "routes": _ask_routes,
        "certificates": _ask_certificates,
        "mail": _ask_mail,
    }
    unfit = 0
    for part, ask in parts.items():
        try:
            say(f"ok    {part}: {await ask(settings)}")
        except UnfitError as error:
            say(f"FAIL  {part}: {error}", "red")
            unfit = 1
    return unfit


async def _ask_settings(settings: Settings) -> str:
    try:
        if servers.asked(settings):
            refuse_embedded(settings)
        else:
            refuse_unsupported(settings)
    except UnsupportedSettingError as error:
        raise UnfitError(str(error)) from None
    return "this release can follow them"


async def _ask_database(settings: Settings) -> str:
    if "database_url" in servers.asked(settings):
        return await _ask_database_server(settings)
    try:
        path = settings.database_path
    except ValueError as error:
        raise UnfitError(str(error)) from None
    if not path.is_file():
        raise UnfitError(f"there is none at {path}; `yuanlian up` makes it")
    database = SqliteDatabase(path)
    try:
        revision = database.migrate(revision_of)
        await database.ping()
    except SQLAlchemyError as error:
        raise UnfitError(f"{path}: {getattr(error, 'orig', error)}") from None
    finally:
        await database.close()
    return _schema_of(str(path), revision)


async def _ask_database_server(settings: Settings) -> str:
    from yuanlian.kit.database.mysql import MysqlDatabase  # its libraries only where it is used

    version = await _ask_server("database_url", settings)
    database = MysqlDatabase(settings.database_url or "")
    try:
        revision = await asyncio.to_thread(database.migrate, revision_of)
    except DatabaseUnavailableError as error:
        raise UnfitError(f"database_url: {error}") from None
    if revision is None:
        return f"{database} answers ({version}); the first start makes its tables"
    return _schema_of(f"{database} ({version})", revision)


async def _ask_server(name: str, settings: Settings) -> str:
    try:
        return await servers.ask(settings, name)
    except servers.UnfitServerError as error:
        url = servers.masked(str(getattr(settings, name)))
        raise UnfitError(f"{PREFIX}{name.upper()} {url}: {error}") from None


def _schema_of(database: str, revision: str | None) -> str:
    if revision == HEAD:
        return f"{database} answers, schema {HEAD}"
    if not is_known(revision):
        raise UnfitError(f"{database} has schema {revision}, which this release does not know")
    return f"{database} answers, schema {revision}; the next start or `yuanlian migrate` brings it to {HEAD}"


async def _ask_routes(settings: Settings) -> str:
    source = RoutesSource(settings.routes or DEFAULT_ROUTES)
    try:
        routes = source.read().routes
    except RoutesRefusedError as error:
        raise UnfitError(str(error)) from None
    return f"{len(routes)} in {source.path if settings.routes else 'the packaged file'}"


async def _ask_certificates(settings: Settings) -> str:
    if settings.tls_dir is None:
        return "none, the public port speaks plain HTTP"
    tls = Tls(settings.tls_dir, SystemClock())
    try:
        tls.read()
        return await tls.check()
    except CertificateError as error:
        raise UnfitError(str(error)) from None


async def _ask_mail(settings: Settings) -> str:
    if settings.smtp_url is None:
        return f"kept in {settings.data_dir / 'mail'}"
    from yuanlian.services.notification.smtp import SmtpMailer  # its library only where mail is sent

    try:
        await SmtpMailer(settings.smtp_url.get_secret_value(), timeout=MAIL_TIMEOUT_S).ping()
    except (ValueError, OSError) as error:
        raise UnfitError(str(error) or type(error).__name__) from None
    return "the server lets us in"
