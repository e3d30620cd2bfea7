"""The tenants that changed, out of the database: any instance tells what any other changed."""

from __future__ import annotations

import asyncio
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from hashlib import blake2b
from typing import NamedTuple
from zlib import crc32

import msgspec
from sqlalchemy.orm import Session

from yuanlian.kit.database.database import Database, reads
from yuanlian.kit.feed import Changes, SharedReadings, next_look
from yuanlian.kit.tenancy.directory import Tenant
from yuanlian.services.tenant.tenants import repository

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
    """``after``: for gateways and services in other processes. Belongs to one event loop."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._readings: SharedReadings[None, _State] = SharedReadings(self._read)
        self._last: _State | None = None

    def look(self) -> None:
        """Call after the commit of a change: whoever waits looks now."""
        self._readings.look()

    async def after(self, cursor: str, wait_s: float) -> Changes[Tenant]:
        """What a reader of ``cursor`` (``""``: a newcomer) may not know; waits for news until the last look
        that ``wait_s`` seconds have room for. The cursor says what the table was, so any instance can
        answer it, also one that never saw it so. What the reader knows already may be told again. A
        newcomer, and whoever comes from another release, hears that all it knows may be old.

        Raises:
            DatabaseUnavailableError: the table cannot be read.
        """
        until = asyncio.get_running_loop().time() + wait_s
        if cursor and not _is_ours(cursor):
            # While two releases answer in turn, their readers would ask as fast as they are answered.
            await self._readings.until_next_look(self._readings.news)
        while True:
            news = self._readings.news
            state = await self._readings.of(None)
            if state.cursor != cursor or next_look() > until:
                break
            await self._readings.until_next_look(news)
        if not _is_ours(cursor):
            return Changes(state.cursor, complete=True)
        return Changes(state.cursor, complete=False, items=_differing(state, cursor))

    async def _read(self, _all: None) -> _State:
        tenants = await self._tenants()
        if self._last is None or self._last.tenants != tenants:
            self._last = _State(tenants, _cursor(tenants))
        return self._last

    @reads
    def _tenants(self, session: Session) -> list[Tenant]:
        return repository.directory(session)


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
