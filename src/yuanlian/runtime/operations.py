"""What an operator does from the command line, beside a running platform or without one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from datetime import datetime

from yuanlian.contracts.queues import QUEUES
from yuanlian.kit.clock import SystemClock
from yuanlian.kit.database.database import ManagedDatabase
from yuanlian.kit.database.sqlite import SqliteDatabase
from yuanlian.kit.database.url import database_from_url
from yuanlian.kit.messaging.dead_letters import DatabaseDeadLetters, DeadLetters, JoinedDeadLetters
from yuanlian.kit.messaging.local import LocalBus
from yuanlian.kit.messaging.repository import DeadLetter
from yuanlian.runtime.console import console, say, table
from yuanlian.runtime.datadir import DataDirLock
from yuanlian.runtime.schema import HEAD, SchemaError, revision_of, upgrade
from yuanlian.runtime.settings import Settings
from yuanlian.services.tenant.tenants import repository

PAGE = 200


class NothingThereError(Exception):
    """What the operator named does not exist."""


async def migrate(settings: Settings) -> None:
    """Raises:
    NothingThereError, SchemaError: there is nothing to migrate, or it cannot be.
    DataDirHeldError: a platform runs on it.
    """
    database = _existing(settings)
    try:
        with hold(settings):
            before = database.migrate(revision_of)
            database.migrate(upgrade)
    finally:
        await database.close()
    say(f"schema {HEAD}, as before" if before == HEAD else f"schema {before} -> {HEAD}")


async def show_tenants(settings: Settings) -> None:
    async with _opened(settings) as database:
        tenants = await database.read(repository.everyone)
    shown = table("id", "name", "domain", "status", "isolation")
    for tenant in tenants:
        shown.add_row(tenant.id, tenant.name, tenant.domain or "-", tenant.status, tenant.isolation)
    console().print(shown)


async def show_dead_letters(settings: Settings, queue: str | None) -> None:
    async with _dead_letters(settings) as all_letters:
        letters = await _all(all_letters, queue)
    if not letters:
        say("no dead letters")
        return
    shown = table("id", "queue", "given up at", "message", "attempts", "reason")
    for letter in letters:
        when = datetime.fromtimestamp(letter.failed_at / 1000).astimezone().isoformat(" ", "seconds")
        attempts = str(letter.attempts)
        shown.add_row(str(letter.id), letter.queue, when, letter.message_id, attempts, letter.reason)
    console().print(shown)


async def _all(letters: DeadLetters, queue: str | None) -> list[DeadLetter]:
    found, cursor = await letters.list(PAGE, queue=queue)
    while cursor is not None:
        page, cursor = await letters.list(PAGE, cursor, queue)
        found += page
    return found


async def replay_dead_letters(settings: Settings, ids: Sequence[int], queue: str | None) -> None:
    """Works beside a running platform, which takes them from their queues.

    Raises:
        NothingThereError: a number that is no dead letter's, or no longer a message; the others were
            replayed.
    """
    async with _dead_letters(settings) as letters:
        by_number = await letters.replay(ids) if ids else 0
        count = by_number + (await letters.replay_queue(queue) if queue is not None else 0)
    say(f"{count} replayed")
    if missing := len(set(ids)) - by_number:
        raise NothingThereError(f"{missing} of the numbers named no dead letter that can be replayed")


@asynccontextmanager
async def _dead_letters(settings: Settings) -> AsyncIterator[DeadLetters]:
    """Wherever the messages of this platform die.

    Raises:
        NothingThereError, SchemaError, BusError
    """
    async with _opened(settings) as database:
        if settings.bus_url == "local://":
            yield DatabaseDeadLetters(database, LocalBus(database, SystemClock()))
            return
        from yuanlian.kit.messaging.rabbitmq import RabbitMqBus  # only what is used
        from yuanlian.kit.messaging.rabbitmq_dead_letters import RabbitMqDeadLetters

        bus = RabbitMqBus(settings.bus_url, SystemClock(), bindings=QUEUES, name="yuanlian dead-letters")
        try:
            broker = RabbitMqDeadLetters(bus, settings.bus_url)
            yield JoinedDeadLetters(broker, DatabaseDeadLetters(database, bus))
        finally:
            await bus.stop()


@asynccontextmanager
async def _opened(settings: Settings) -> AsyncIterator[ManagedDatabase]:
    """The database of a platform that was started before, at the schema of this release.

    Raises:
        NothingThereError, SchemaError
    """
    database = _existing(settings)
    try:
        refuse_other_schema(database.migrate(revision_of))
        yield database
    finally:
        await database.close()


def refuse_other_schema(revision: str | None) -> None:
    """Raises:
    SchemaError: it is not the one of this release.
    """
    if revision != HEAD:
        raise SchemaError(f"the database has schema {revision}, this release has {HEAD}: migrate it first")


def hold(settings: Settings) -> AbstractContextManager[object]:
    """Keeps others off SQLite's database meanwhile. A server's is for many; what has to be done there by one
    at a time, the server puts in a row.

    Raises:
        DataDirHeldError: a platform runs on it.
    """
    return DataDirLock(settings.data_dir) if settings.has_database_file else nullcontext()


def database_of(settings: Settings) -> ManagedDatabase:
    """Whichever the settings name; SQLite makes its file when it is used.

    Raises:
        ValueError: they name none that we speak.
    """
    if settings.database_url is None or settings.has_database_file:
        return SqliteDatabase(settings.database_path)
    return database_from_url(settings.database_url)


def _existing(settings: Settings) -> ManagedDatabase:
    if settings.has_database_file and not settings.database_path.is_file():
        raise NothingThereError(f"there is no database at {settings.database_path}; `yuanlian up` makes one")
    return database_of(settings)
