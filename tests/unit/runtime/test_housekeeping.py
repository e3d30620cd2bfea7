"""The inbox does not grow for ever, and forgets nothing that may still come again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from sqlalchemy import insert, select
from tests.support.databases import open_database, technology

from yuanlian.kit.clock import ManualClock
from yuanlian.kit.database.database import Database
from yuanlian.kit.database.schema import Base, table_of
from yuanlian.kit.messaging.tables import InboxRow
from yuanlian.runtime.housekeeping import DAY_MS, keep_tidy, tidy

NOW = 1_790_000_000_000
AGES = {"msg_now": 0, "msg_of_six_days": 6 * DAY_MS, "msg_of_a_week": 7 * DAY_MS + 1, "msg_old": 30 * DAY_MS}

__all__ = ["technology"]

pytestmark = pytest.mark.usefixtures("technology")


def test_what_was_taken_over_a_week_ago_is_forgotten(tmp_path: Path) -> None:
    async def scenario(database: Database) -> None:
        clock = ManualClock(NOW)
        assert await tidy(database, clock) == 2
        assert await _taken(database) == {"msg_now", "msg_of_six_days"}
        assert await tidy(database, clock) == 0

    _with_inbox(tmp_path, scenario)


def test_it_happens_by_itself_and_goes_on_after_a_failure(tmp_path: Path) -> None:
    async def scenario(database: Database) -> None:
        clock = BrokenOnce(NOW)
        task = asyncio.create_task(keep_tidy(database, clock, every_s=0.01))
        async with asyncio.timeout(10):
            while len(await _taken(database)) > 2:
                await asyncio.sleep(0.01)
        task.cancel()
        assert clock.broke

    _with_inbox(tmp_path, scenario)


class BrokenOnce(ManualClock):
    broke = False

    def now_ms(self) -> int:
        if not self.broke:
            self.broke = True
            raise OSError("no clock")
        return super().now_ms()


def _with_inbox(tmp_path: Path, scenario: Callable[[Database], Awaitable[None]]) -> None:
    async def run() -> None:
        database = open_database(tmp_path / "inbox.db")
        try:
            database.migrate(Base.metadata.create_all)
            rows = [{"consumer": "c", "message_id": id_, "seen_at": NOW - age} for id_, age in AGES.items()]
            await database.write(lambda session: session.execute(insert(table_of(InboxRow)), rows))
            await scenario(database)
        finally:
            await database.close()

    asyncio.run(run())


async def _taken(database: Database) -> set[str]:
    return set(await database.read(lambda session: list(session.scalars(select(InboxRow.message_id)))))
