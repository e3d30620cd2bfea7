"""A real database for every test, with a table where consumers leave their effect.

Outbox, inbox and relay work on every database; ``LocalBus`` needs the single writer of SQLite.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from tests.support.databases import TECHNOLOGIES, open_database, using
from tests.unit.kit.messaging.store import EFFECTS, Run

from yuanlian.kit.database.database import ManagedDatabase
from yuanlian.kit.database.schema import Base
from yuanlian.kit.messaging import tables  # noqa: F401 - declares them

ON_EVERY_DATABASE = ("test_outbox", "test_inbox", "test_relay")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "technology" in metafunc.fixturenames:
        everywhere = metafunc.module.__name__.rpartition(".")[2] in ON_EVERY_DATABASE
        metafunc.parametrize("technology", TECHNOLOGIES if everywhere else TECHNOLOGIES[:1])


@pytest.fixture
def database(tmp_path: Path, technology: str) -> Iterator[ManagedDatabase]:
    with using(technology):
        database = open_database(tmp_path / "yuanlian.db")
        database.migrate(lambda connection: Base.metadata.create_all(connection))
        database.migrate(lambda connection: EFFECTS.metadata.create_all(connection))
        yield database


@pytest.fixture
def run(database: ManagedDatabase) -> Run:
    """Runs a scenario and closes the database after it."""

    def play(scenario: Callable[[], Awaitable[None]]) -> None:
        async def whole() -> None:
            try:
                await asyncio.wait_for(scenario(), 30)
            finally:
                await database.close()

        asyncio.run(whole())

    return play
