"""What every connection is told first, whatever the server's own settings are."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session
from tests.support.databases import open_database, using

from yuanlian.kit.database.database import ManagedDatabase
from yuanlian.kit.database.mysql_connections import LOCK_WAIT_S, STATEMENT_S

pytestmark = pytest.mark.servers
ASKED = (
    "SELECT @@sql_mode, @@tx_isolation, @@tx_read_only, @@time_zone, @@innodb_lock_wait_timeout, "
    "@@lock_wait_timeout, @@max_statement_time, @@character_set_client"
)
COUNTED = "SELECT count(*) FROM short"
MODES = {"STRICT_ALL_TABLES", "NO_ZERO_DATE", "NO_ZERO_IN_DATE", "ONLY_FULL_GROUP_BY"}


@pytest.fixture
def database(tmp_path: Path) -> Iterator[ManagedDatabase]:
    with using("mariadb"):
        yield open_database(tmp_path / "sessions.db")


def play(database: ManagedDatabase, scenario: Callable[[], Awaitable[None]]) -> None:
    async def whole() -> None:
        try:
            await scenario()
        finally:
            await database.close()  # its connections are this loop's

    asyncio.run(whole())


def settings_of(session: Session) -> tuple[set[str], tuple[object, ...]]:
    mode, *others = session.connection().exec_driver_sql(ASKED).one()
    return set(mode.split(",")), tuple(others)


def test_writes_and_reads_have_their_isolation_and_limits(database: ManagedDatabase) -> None:
    async def scenario() -> None:
        limits = ("+00:00", LOCK_WAIT_S, STATEMENT_S, STATEMENT_S, "utf8mb4")
        modes, others = await database.write(settings_of)
        assert modes >= MODES
        assert others == ("READ-COMMITTED", 0, *limits)
        modes, others = await database.read(settings_of)
        assert modes >= MODES
        assert others == ("REPEATABLE-READ", 1, *limits)

    play(database, scenario)


def test_what_does_not_fit_is_an_error_and_is_not_cut(database: ManagedDatabase) -> None:
    def make(connection: Connection) -> None:
        connection.exec_driver_sql("CREATE OR REPLACE TABLE short (text VARCHAR(2))")

    async def scenario() -> None:
        with pytest.raises(DBAPIError, match="too long"):
            await database.write(
                lambda s: s.connection().exec_driver_sql("INSERT INTO short VALUES ('小一班')")
            )
        assert await database.read(lambda s: s.connection().exec_driver_sql(COUNTED).scalar()) == 0

    database.migrate(make)
    try:
        play(database, scenario)
    finally:
        database.migrate(lambda connection: connection.exec_driver_sql("DROP TABLE short"))
