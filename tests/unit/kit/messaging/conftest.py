"""A real database for every test, with a table where consumers leave their effect."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from tests.unit.kit.messaging.store import EFFECTS, Run

from yuanlian.kit.database.schema import Base
from yuanlian.kit.database.sqlite import SqliteDatabase
from yuanlian.kit.messaging import tables  # noqa: F401 - declares them


@pytest.fixture
def database(tmp_path: Path) -> SqliteDatabase:
    database = SqliteDatabase(tmp_path / "yuanlian.db")
    database.migrate(lambda connection: Base.metadata.create_all(connection))
    database.migrate(lambda connection: EFFECTS.metadata.create_all(connection))
    return database


@pytest.fixture
def run(database: SqliteDatabase) -> Run:
    """Runs a scenario and closes the database after it."""

    def play(scenario: Callable[[], Awaitable[None]]) -> None:
        async def whole() -> None:
            try:
                await asyncio.wait_for(scenario(), 30)
            finally:
                await database.close()

        asyncio.run(whole())

    return play
