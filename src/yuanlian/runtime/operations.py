"""What an operator does from the command line, on the settings at hand."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

from pydantic import SecretStr
from pydantic_settings import TomlConfigSettingsSource
from rich.console import Console
from rich.table import Table
from sqlalchemy import select
from sqlalchemy.orm import Session

from yuanlian.gateway.routes import RouteTable
from yuanlian.kit.clock import SystemClock
from yuanlian.kit.database.sqlite import SqliteDatabase
from yuanlian.kit.messaging.dead_letters import DeadLetters
from yuanlian.kit.messaging.local import LocalBus
from yuanlian.runtime.datadir import DataDirLock
from yuanlian.runtime.schema import HEAD, revision_of, upgrade
from yuanlian.runtime.settings import Settings
from yuanlian.runtime.wiring import DEFAULT_ROUTES
from yuanlian.services.tenant.tenants.models import TenantRow

_console = Console()
_PASSWORD = re.compile(r"(://[^:/@]*:)[^@]*@")


def check(settings: Settings) -> int:
    """Prints settings with their source, secrets masked, and asks the database; 1 on an error."""
    table = Table("setting", "value", "from")
    from_file = TomlConfigSettingsSource(Settings)()
    for name in Settings.model_fields:
        value = getattr(settings, name)
        if isinstance(value, SecretStr):
            value = "********"
        shown = _PASSWORD.sub(r"\1********@", str(value))
        table.add_row(f"YUANLIAN_{name.upper()}", shown, _source(settings, name, from_file))
    _console.print(table)
    return _check_database(settings)


def _source(settings: Settings, name: str, from_file: dict[str, object]) -> str:
    if name not in settings.model_fields_set:
        return "default"
    return "yuanlian.toml" if from_file.get(name) is not None else "environment or option"


def _check_database(settings: Settings) -> int:
    path = settings.database_path
    if not path.exists():
        _console.print(f"database {path}: not there yet; `yuanlian up` or `yuanlian migrate` makes it")
        return 0
    database = SqliteDatabase(path)
    try:
        revision = database.migrate(revision_of)
    except Exception as error:  # noqa: BLE001 - whatever it is, the operator wants to read it
        _console.print(f"database {path}: {error}", style="red")
        return 1
    finally:
        asyncio.run(database.close())
    _console.print(f"database {path}: answers, schema {revision} (this release: {HEAD})")
    return 0


def migrate(settings: Settings) -> None:
    with DataDirLock(settings.data_dir):
        database = SqliteDatabase(settings.database_path)
        database.migrate(upgrade)
        asyncio.run(database.close())
    _console.print(f"schema {HEAD}")


def _open(settings: Settings) -> SqliteDatabase:
    """The database of a platform that was started before.

    Raises:
        FileNotFoundError: there is none.
    """
    path = settings.database_path
    if not path.exists():
        raise FileNotFoundError(f"there is no database at {path}; `yuanlian up` makes one")
    return SqliteDatabase(path)


def show_routes(settings: Settings) -> None:
    path: Path = settings.routes or DEFAULT_ROUTES
    table = Table("path", "service", "methods", "auth", "limit", "by")
    for route in RouteTable.load(path.read_text(encoding="utf-8")).routes:
        limit = f"{route.rate_limit[0]} / {route.rate_limit[1] // 1000} s" if route.rate_limit else ""
        table.add_row(
            route.path, route.service, " ".join(sorted(route.methods)), str(route.auth), limit, route.limit_by
        )
    _console.print(table)


async def show_tenants(settings: Settings) -> None:
    def read(session: Session) -> list[TenantRow]:
        return list(session.scalars(select(TenantRow).order_by(TenantRow.id)))

    database = _open(settings)
    table = Table("id", "name", "domain", "status")
    for tenant in await database.read(read):
        table.add_row(tenant.id, tenant.name, tenant.domain or "", tenant.status)
    await database.close()
    _console.print(table)


async def show_dead_letters(settings: Settings, queue: str | None) -> None:
    database = _open(settings)
    letters = DeadLetters(database, LocalBus(database, SystemClock()))
    table = Table("id", "queue", "message", "attempts", "reason")
    cursor = None
    while True:
        page, cursor = await letters.list(limit=200, cursor=cursor, queue=queue)
        for letter in page:
            table.add_row(
                str(letter.id),
                letter.queue,
                letter.message_id,
                str(letter.attempts),
                letter.reason,
            )
        if cursor is None:
            break
    await database.close()
    _console.print(table)


async def replay_dead_letters(settings: Settings, ids: list[int], queue: str | None) -> None:
    """Works beside a running platform: its queues are polled."""
    database = _open(settings)
    letters = DeadLetters(database, LocalBus(database, SystemClock()))
    count = await letters.replay(ids) if ids else 0
    if queue is not None:
        count += await letters.replay_queue(queue)
    await database.close()
    _console.print(f"{count} replayed")
