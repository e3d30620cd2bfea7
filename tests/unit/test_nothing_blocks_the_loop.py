"""Nothing blocks the loop. DESIGN §6 invariant 7. The loop itself lets the slow work go on: where that
work held the loop up, it would wait in vain."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from sqlalchemy.orm import Session

from yuanlian.kit.database.sqlite import SqliteDatabase
from yuanlian.services.auth.passwords import Passwords

WAIT_S = 10.0


@pytest.mark.parametrize("method", ["read", "write"])
def test_a_slow_use_case_holds_nobody_else_up(tmp_path: Path, method: str) -> None:
    async def scenario() -> None:
        database = SqliteDatabase(tmp_path / "slow.db")
        run: Callable[[Callable[[Session], bool]], Awaitable[bool]] = getattr(database, method)
        go_on = threading.Event()
        slow = asyncio.ensure_future(run(lambda _session: go_on.wait(WAIT_S)))
        await asyncio.sleep(0)
        go_on.set()
        assert await slow
        await database.close()

    asyncio.run(scenario())


def test_a_slow_read_does_not_hold_writes_up(tmp_path: Path) -> None:
    async def scenario() -> None:
        database = SqliteDatabase(tmp_path / "slow.db")
        go_on = threading.Event()
        slow = asyncio.ensure_future(database.read(lambda _session: go_on.wait(WAIT_S)))
        await asyncio.sleep(0)
        await database.write(lambda _session: go_on.set())
        assert await slow
        await database.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("work", ["hash", "verify"])
def test_password_hashing_lets_the_loop_run(work: str) -> None:
    async def scenario() -> int:
        passwords = Passwords()
        stored = await passwords.hash("correct horse")
        hashing: asyncio.Future[object] = asyncio.ensure_future(
            passwords.hash("again") if work == "hash" else passwords.verify(stored, "correct horse")
        )
        turns = 0
        while not hashing.done():
            turns += 1
            await asyncio.sleep(0)
        return turns

    # On the loop it would be done after two or three turns.
    assert asyncio.run(scenario()) > 10
