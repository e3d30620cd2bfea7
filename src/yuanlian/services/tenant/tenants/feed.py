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
"""How often the table is read while anybody waits: what another instance changed is told within it."""
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
    """``after``: for gateways and services in other processes. All who wait look at the same moments and
    share what is read; while nobody waits nothing is read. Belongs to one event loop."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._changed = asyncio.Event()
        self._asked: asyncio.Task[_State] | None = None
        """A reading that has not begun."""
        self._turn = asyncio.Lock()
        self._last: _State | None = None

    def look(self) -> None:
        """Call after the commit of a change: whoever waits looks now."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def after(self, cursor: str, wait_s: float) -> Changes[Tenant]:
        """What a reader of ``cursor`` (``""``: a newcomer) may not know; waits for news until the last look
        that ``wait_s`` seconds have room for. The cursor says what the table was, so any instance can
        answer it, also one that never saw it so. What the reader knows already may be told again. A
        newcomer, and whoever comes from another release, hears that all it knows may be old.

        Raises:
            DatabaseUnavailableError: the table cannot be read.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + wait_s
        if cursor and not _is_ours(cursor):
            # While two releases answer in turn, their readers would ask as fast as they are answered.
            await self._until_next_look(self._changed)
        while True:
            changed = self._changed
            state = await self._reading()
            if state.cursor != cursor or _next_look() > until:
                break
            await self._until_next_look(changed)
        if not _is_ours(cursor):
            return Changes(state.cursor, complete=True)
        return Changes(state.cursor, complete=False, items=_differing(state, cursor))

    async def _until_next_look(self, changed: asyncio.Event) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(_next_look()):
                await changed.wait()

    async def _reading(self) -> _State:
        """Whoever asks before a reading begins shares it: an answer is never older than its question."""
        if self._asked is None:
            self._asked = asyncio.create_task(self._read_in_turn())
            self._asked.add_done_callback(_heard)
        return await asyncio.shield(self._asked)  # one who hangs up takes it from nobody

    async def _read_in_turn(self) -> _State:
        async with self._turn:
            self._asked = None
            tenants = await self._tenants()
            if self._last is None or self._last.tenants != tenants:
                self._last = _State(tenants, _cursor(tenants))
            return self._last

    @reads
    def _tenants(self, session: Session) -> list[Tenant]:
        return repository.directory(session)


def _next_look() -> float:
    """A time of the event loop."""
    return (asyncio.get_running_loop().time() // LOOK_S + 1) * LOOK_S


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
