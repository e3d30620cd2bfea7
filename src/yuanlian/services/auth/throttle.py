"""Guessing passwords gets slow: a lock per account and address, and a wider one per account.

The state is in the database, so that neither a restart nor another process forgets it. Usernames
that do not exist are counted like others, or the lock would tell which ones do.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from weakref import WeakValueDictionary

from sqlalchemy.orm import Session

from yuanlian.kit.clock import Clock
from yuanlian.kit.database.database import Database, reads, writes
from yuanlian.kit.errors import RateLimitedError
from yuanlian.kit.i18n import Text
from yuanlian.services.auth import repository
from yuanlian.services.auth.models import LoginFailures

LOCKED = Text("密码错误次数过多，请稍后再试", "Too many wrong passwords; try again later")


@dataclass(frozen=True, slots=True)
class Limit:
    """``failures`` in a row, each within ``memory_ms`` of the one before, lock for ``lock_ms``."""

    failures: int
    lock_ms: int
    memory_ms: int


_HALF = 32
"""Hex digits of each digest in a key: 128 bits."""
PER_ADDRESS = Limit(failures=5, lock_ms=15 * 60_000, memory_ms=15 * 60_000)
PER_ACCOUNT = Limit(failures=20, lock_ms=15 * 60_000, memory_ms=60 * 60_000)


class Throttle:
    def __init__(self, database: Database, clock: Clock) -> None:
        self.database = database
        self._clock = clock
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def attempt(self, username: str, address: str) -> AsyncIterator[Attempt]:
        """One try at one account; tries at the same account take turns, so that guesses sent at
        once cannot overtake the count.

        Raises:
            RateLimitedError: locked, with ``Retry-After``.
        """
        turn = self._turns.setdefault(username, asyncio.Lock())
        async with turn:
            limits = {_key(username, address): PER_ADDRESS, _key(username): PER_ACCOUNT}
            wait_ms = await self._locked_for(list(limits))
            if wait_ms > 0:
                raise RateLimitedError(LOCKED, headers=[("retry-after", str(math.ceil(wait_ms / 1000)))])
            yield Attempt(self, limits)

    @reads
    def _locked_for(self, session: Session, keys: list[str]) -> int:
        now = self._clock.now_ms()
        rows = repository.failures(session, keys).values()
        return max((row.locked_until - now for row in rows), default=0)

    @writes
    def count(self, session: Session, limits: dict[str, Limit]) -> None:
        now = self._clock.now_ms()
        repository.forget_old_failures(session, now)
        known = repository.failures(session, limits)
        for key, limit in limits.items():
            row = known.get(key)
            if row is None:
                row = LoginFailures(key=key, count=0, locked_until=0)
                session.add(row)
            row.count += 1
            row.expires_at = now + limit.memory_ms
            if row.count >= limit.failures:
                row.locked_until = row.expires_at = now + limit.lock_ms

    @writes
    def reset(self, session: Session, limits: dict[str, Limit]) -> None:
        repository.forget_failures(session, limits)

    def forgive(self, session: Session, username: str) -> None:
        """Forgets every wrong password for an account, whatever address it came from: part of a
        transaction that gives it another one."""
        repository.forget_failures_of(session, _key(username))


@dataclass(frozen=True, slots=True)
class Attempt:
    """Say how it ended."""

    _throttle: Throttle
    _limits: dict[str, Limit]

    async def failed(self) -> None:
        await self._throttle.count(self._limits)

    async def succeeded(self) -> None:
        await self._throttle.reset(self._limits)


def _key(username: str, address: str | None = None) -> str:
    """Digests, of a fixed length: what people mistype into the field is not kept. All keys of an
    account begin with the one it has without an address."""
    account = hashlib.sha256(username.encode()).hexdigest()[:_HALF]
    return account if address is None else account + hashlib.sha256(address.encode()).hexdigest()[:_HALF]
