"""Any instance of the auth service tells a follower what any other has revoked."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from yuanlian.kit.clock import ManualClock, SystemClock
from yuanlian.kit.database.sqlite import SqliteDatabase
from yuanlian.kit.identity.memory import MemoryRevocations
from yuanlian.kit.identity.principal import Principal
from yuanlian.runtime.schema import upgrade
from yuanlian.services.auth.revocation import RevocationLog

MEMBER = Principal("user_1", "kg_a", session_id="session_1")

Scenario = Callable[[RevocationLog, RevocationLog], Awaitable[None]]


def _run(folder: Path, scenario: Scenario) -> None:
    async def all_of_it() -> None:
        clock = SystemClock()
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
