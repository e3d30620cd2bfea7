"""Any instance of the auth service tells a follower what any other has revoked."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Engine, event
from sqlalchemy.orm import Session

from yuanlian.kit.clock import ManualClock, SystemClock
from yuanlian.kit.database.sqlite import SqliteDatabase
from yuanlian.kit.identity.memory import MemoryRevocations
from yuanlian.kit.identity.principal import Principal
from yuanlian.runtime.schema import upgrade
from yuanlian.services.auth.revocation import OVERLAP_S, RevocationLog

T = TypeVar("T")

MEMBER = Principal("user_1", "kg_a", session_id="session_1")

Scenario = Callable[[RevocationLog, RevocationLog], Awaitable[None]]


def _run(folder: Path, scenario: Scenario) -> None:
    async def all_of_it() -> None:
        clock = ManualClock(SystemClock().now_ms())  # a cursor is another one every ten minutes
        database = SqliteDatabase(folder / "shared.db")
        database.migrate(upgrade)
        try:
            one, other = (RevocationLog(database, MemoryRevocations(clock), clock) for _ in range(2))
            await scenario(one, other)
        finally:
            await database.close()

    asyncio.run(asyncio.wait_for(all_of_it(), 20))


async def _revoke(log: RevocationLog, session_id: str) -> None:
    await log.tell([await log.database.write(lambda session: log.session_revoked(session, session_id))])


def test_one_who_follows_an_instance_hears_what_another_revoked(tmp_path: Path) -> None:
    async def scenario(one: RevocationLog, other: RevocationLog) -> None:
        first = await other.after("", 0)
        waiting = asyncio.create_task(other.after(first.cursor, 10))
        await _revoke(one, "session_1")
        news = await waiting
        assert [entry.session_id for entry in news.items] == ["session_1"]
        assert not news.complete

    _run(tmp_path, scenario)


def test_the_cursor_of_one_instance_counts_at_the_other(tmp_path: Path) -> None:
    async def scenario(one: RevocationLog, other: RevocationLog) -> None:
        await _revoke(one, "session_1")
        first = await one.after("", 0)
        assert first.complete
        again = await other.after(first.cursor, 0)
        assert (again.cursor, again.complete, again.items) == (first.cursor, False, ())
        await _revoke(other, "session_2")
        told = {entry.session_id for entry in (await one.after(first.cursor, 0)).items}
        assert "session_2" in told

    _run(tmp_path, scenario)


def test_a_cursor_that_nobody_gave_is_a_newcomers(tmp_path: Path) -> None:
    async def scenario(one: RevocationLog, _: RevocationLog) -> None:
        for cursor in ("-", "x-1", "1-", "-1-x", "٣-x"):
            assert (await one.after(cursor, 0)).complete, cursor

    _run(tmp_path, scenario)


def _clocks(
    folder: Path, scenario: Callable[[RevocationLog, RevocationLog, ManualClock], Awaitable[None]]
) -> None:
    """The second instance's clock is another one, and may be moved."""

    async def all_of_it() -> None:
        right, odd = SystemClock(), ManualClock(SystemClock().now_ms())
        database = SqliteDatabase(folder / "shared.db")
        database.migrate(upgrade)
        try:
            one, other = (RevocationLog(database, MemoryRevocations(clock), clock) for clock in (right, odd))
            await scenario(one, other, odd)
        finally:
            await database.close()

    asyncio.run(asyncio.wait_for(all_of_it(), 20))


def test_the_cursor_of_a_fast_clock_hides_nothing(tmp_path: Path) -> None:
    async def scenario(right: RevocationLog, odd: RevocationLog, clock: ManualClock) -> None:
        clock.advance(3_600_000)
        ahead = await odd.after("", 0)
        await _revoke(right, "session_1")
        told = await right.after(ahead.cursor, 0)
        assert "session_1" in {entry.session_id for entry in told.items}

    _clocks(tmp_path, scenario)


def test_a_slow_clock_takes_no_revocation_back(tmp_path: Path) -> None:
    async def scenario(right: RevocationLog, odd: RevocationLog, clock: ManualClock) -> None:
        clock.advance(-300_000)

        async def revoke(log: RevocationLog) -> int:
            row = await log.database.write(lambda session: log.member_revoked(session, "kg_a", "user_1"))
            return row.issued_before

        first = await revoke(right)
        assert await revoke(odd) >= first

    _clocks(tmp_path, scenario)


def test_a_token_from_between_two_revocations_of_one_second_is_refused(tmp_path: Path) -> None:
    async def scenario(_: RevocationLog, log: RevocationLog, clock: ManualClock) -> None:
        known = MemoryRevocations(clock)

        async def revoke() -> int:
            """When a token is dated that is issued right after."""
            await log.database.write(lambda session: log.member_revoked(session, "kg_a", "user_1"))
            for entry in (await log.after("", 0)).items:
                await entry.enter(known)
            return await log.database.read(lambda session: log.first_valid_second(session, "kg_a", "user_1"))

        between = await revoke()
        assert not known.is_revoked(MEMBER, between)
        after = await revoke()
        assert known.is_revoked(MEMBER, between)
        assert not known.is_revoked(MEMBER, after)

    _clocks(tmp_path, scenario)


@contextmanager
def _selects() -> Iterator[list[str]]:
    """The statements that read the table, as the engine sends them."""
    sent: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("SELECT") and "FROM revocations" in statement:
            sent.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        event.remove(Engine, "before_cursor_execute", note)


def test_all_who_follow_an_instance_share_its_readings(tmp_path: Path) -> None:
    """They came over the last ten minutes, one by one."""

    async def scenario(_: RevocationLog, log: RevocationLog, clock: ManualClock) -> None:
        step_ms = OVERLAP_S * 1000
        clock.advance(step_ms - clock.now_ms() % step_ms)
        cursors = []
        for _number in range(20):
            cursors.append((await log.after("", 0)).cursor)
            clock.advance(step_ms // 20)
        for number, cursor in enumerate(cursors):
            cursors[number] = (await log.after(cursor, 0)).cursor
            clock.advance(1000)
        with _selects() as sent:
            answers = await asyncio.gather(*(log.after(cursor, 1.0) for cursor in cursors))
        assert not any(answer.items or answer.complete for answer in answers)
        assert 1 <= len(sent) <= 6, len(sent)

    _clocks(tmp_path, scenario)


class HeldDatabase:
    """A database whose answers come late: what is read is held until ``release``."""

    def __init__(self, database: SqliteDatabase) -> None:
        self._database = database
        self.answered = asyncio.Event()
        self.release = asyncio.Event()

    async def read(self, work: Callable[[Session], T]) -> T:
        result = await self._database.read(work)
        self.answered.set()
        await self.release.wait()
        return result

    async def write(self, work: Callable[[Session], T], *, repeatable: bool = False) -> T:
        return await self._database.write(work, repeatable=repeatable)

    async def ping(self) -> None:
        await self._database.ping()

    async def close(self) -> None:
        await self._database.close()


def test_no_question_is_answered_by_a_reading_that_began_before_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = SystemClock()
        stored = SqliteDatabase(tmp_path / "shared.db")
        stored.migrate(upgrade)
        database = HeldDatabase(stored)
        log = RevocationLog(database, MemoryRevocations(clock), clock)
        early = asyncio.create_task(log.after("", 0))
        await database.answered.wait()
        await _revoke(log, "session_1")
        late = [asyncio.create_task(log.after("", 0)) for _ in range(3)]
        await asyncio.sleep(0)  # they have asked
        late[0].cancel()  # one hangs up; the others are answered
        await asyncio.sleep(0)
        with _selects() as sent:
            database.release.set()
            assert (await early).items == ()
            for task in late[1:]:
                assert [entry.session_id for entry in (await task).items] == ["session_1"]
        assert len(sent) == 1
        await database.close()

    asyncio.run(asyncio.wait_for(scenario(), 20))
