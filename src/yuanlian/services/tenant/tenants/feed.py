"""The tenants that changed, out of the database: any instance tells what any other changed."""

from __future__ import annotations

import asyncio
import contextlib
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from hashlib import blake2b
from typing import NamedTuple
from zlib import crc32

import msgspec
from sqlalchemy.orm import Session

from yuanlian.kit.database.database import Database, reads
from yuanlian.kit.feed import Changes
from yuanlian.kit.tenancy.directory import Tenant
from yuanlian.services.tenant.tenants import repository

LOOK_S = 0.4
"""How often the table is read while somebody waits: what another instance changed is told within it."""
PARTS = 64
"""A cursor is 64 digests, each of the tenants whose ids fall into one part. A change is told with the
others of its part, one tenant in 64."""
DIGEST_BYTES = 6
_DIGEST_CHARS = DIGEST_BYTES * 4 // 3
_SHAPE = blake2b(repr(Tenant.__struct_fields__).encode(), digest_size=4).hexdigest()
"""A release that knows other fields of a tenant has other digests of the same table."""


class _State(NamedTuple):
    tenants: Sequence[Tenant]
    cursor: str


class TenantFeed:
    """``after``: for gateways and services in other processes. All who wait share one reading of the table
    every ``LOOK_S``; while nobody waits nothing is read. Belongs to one event loop."""

    def __init__(self, database: Database) -> None:
        self.database = database
        # Readings are numbered: how many were begun, and up to which they may miss a change made here.
        self._begun = 0
        self._outdated = 0
        self._reading: asyncio.Task[_State] | None = None
        self._last: _State | None = None
        self._made_here = asyncio.Event()

    def look(self) -> None:
        """Call after the commit of a change: whoever waits looks now."""
        self._outdated = self._begun
        self._made_here.set()
        self._made_here = asyncio.Event()

    async def after(self, cursor: str, wait_s: float) -> Changes[Tenant]:
        """What a reader of ``cursor`` (``""``: a newcomer) may not know; waits up to ``wait_s`` seconds for
        news. The cursor says what the table was, so any instance can answer it, also one that never saw
        it so. What the reader knows already may be told again. A newcomer, and one whose cursor is of
        another release, hears that whatever it knows may be old.

        Raises:
            DatabaseUnavailableError: the table cannot be read.
        """
        if not cursor:
            return Changes((await self._read(self._begun)).cursor, complete=True)
        loop = asyncio.get_running_loop()
        until = loop.time() + wait_s
        seen, state = self._begun, None
        # A cursor of another release waits for its turn as well: while releases alternate, such questions
        # come as fast as they are answered.
        news = self._last is None or (_is_ours(cursor) and cursor != self._last.cursor)
        while state is None or state.cursor == cursor:
            turn = LOOK_S - loop.time() % LOOK_S
            if state is not None and turn > until - loop.time():
                return Changes(cursor, complete=False)
            if not news and self._outdated < self._begun:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(min(turn, max(until - loop.time(), 0))):
                        await self._made_here.wait()
            news = False
            state = await self._read(seen)
            seen = self._begun
        if not _is_ours(cursor):
            return Changes(state.cursor, complete=True)
        return Changes(state.cursor, complete=False, items=_differing(state, cursor))

    async def _read(self, seen: int) -> _State:
        """Of a reading that was begun after the one numbered ``seen``, and after each change made here."""
        if self._reading is None or self._begun <= max(seen, self._outdated):
            self._begun += 1
            self._reading = asyncio.create_task(self._look())
            self._reading.add_done_callback(_heard)
        # One who leaves must not take the answer away from the others.
        return await asyncio.shield(self._reading)

    async def _look(self) -> _State:
        tenants = await self._tenants()
        if self._last is None or self._last.tenants != tenants:
            self._last = _State(tenants, _cursor(tenants))
        return self._last

    @reads
    def _tenants(self, session: Session) -> list[Tenant]:
        return repository.directory(session)


def _heard(task: asyncio.Task[_State]) -> None:
    if not task.cancelled():
        task.exception()  # it is told to whoever waits; when all have left, to nobody


def _part(tenant: Tenant) -> int:
    return crc32(tenant.id.encode()) % PARTS


def _cursor(tenants: Sequence[Tenant]) -> str:
    """``tenants`` in order of id."""
    digests = [blake2b(digest_size=DIGEST_BYTES) for _ in range(PARTS)]
    for tenant in tenants:
        digests[_part(tenant)].update(msgspec.msgpack.encode(tenant))
    return _SHAPE + urlsafe_b64encode(b"".join(digest.digest() for digest in digests)).decode()


def _is_ours(cursor: str) -> bool:
    return cursor.startswith(_SHAPE) and len(cursor) == len(_SHAPE) + PARTS * _DIGEST_CHARS


def _differing(state: _State, cursor: str) -> tuple[Tenant, ...]:
    def digest(of: str, part: int) -> str:
        begin = len(_SHAPE) + part * _DIGEST_CHARS
        return of[begin : begin + _DIGEST_CHARS]

    parts = {part for part in range(PARTS) if digest(cursor, part) != digest(state.cursor, part)}
    return tuple(tenant for tenant in state.tenants if _part(tenant) in parts)
