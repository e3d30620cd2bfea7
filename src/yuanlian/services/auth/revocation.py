"""Revocations that survive a restart: stored with the change that caused them, told after its commit."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from sqlalchemy.orm import Session

from yuanlian.kit.clock import Clock
from yuanlian.kit.database.database import Database, reads
from yuanlian.kit.feed import Changes, SharedReadings, next_look
from yuanlian.kit.identity.revocation import Revocations, Revoked
from yuanlian.kit.identity.tokens import CLOCK_SKEW_S, LIFETIME_S
from yuanlian.services.auth import repository
from yuanlian.services.auth.models import Revocation
from yuanlian.services.auth.repository import CurrentRevocation

OVERLAP_S = 600
"""Rows are numbered by the clocks of the instances and become visible after that: what is dated up to so
long ago may still be news. Ten minutes bear two clocks that are five minutes off."""
KEPT_TOKEN_S = LIFETIME_S + CLOCK_SKEW_S


class _Reading(NamedTuple):
    rows: Sequence[CurrentRevocation]
    digest: str


class RevocationLog:
    """``…_revoked`` inside the transaction; ``tell`` with what they returned after it. ``after``: for the
    gateways in other processes."""

    def __init__(self, database: Database, revocations: Revocations, clock: Clock) -> None:
        self.database = database
        self._revocations = revocations
        self._clock = clock
        self._readings: SharedReadings[int | None, _Reading] = SharedReadings(self._read)

    def session_revoked(self, session: Session, session_id: str) -> Revocation:
        # A token issued in the same moment may carry a later ``iat``: see ``first_valid_second``.
        return self._save(
            session,
            Revocation(
                key=session_id,
                session_id=session_id,
                tenant_id=None,
                user_id=None,
                issued_before=self._now_s(),
            ),
        )

    def member_revoked(self, session: Session, tenant_id: str, user_id: str) -> Revocation:
        """Tokens issued up to and within the current second, and those that an earlier revocation has had
        dated later (``first_valid_second``)."""
        return self._save(
            session,
            Revocation(
                key=_member_key(tenant_id, user_id),
                session_id=None,
                tenant_id=tenant_id,
                user_id=user_id,
                issued_before=self._now_s() + 1,
            ),
        )

    def first_valid_second(self, session: Session, tenant_id: str, user_id: str) -> int:
        """When a token issued now was issued. Seconds are coarse: within the second of a revocation
        a new token is dated into the next one, or it would be refused as an old one."""
        revoked = repository.revocation(session, _member_key(tenant_id, user_id))
        return max(self._now_s(), revoked.issued_before if revoked else 0)

    async def tell(self, rows: Iterable[Revocation]) -> None:
        for row in rows:
            await _revoked(row).enter(self._revocations)
        self._readings.look()

    async def after(self, cursor: str, wait_s: float) -> Changes[Revoked]:
        """What a reader of ``cursor`` (``""``: a newcomer) may not know; waits for news until the last look
        that ``wait_s`` seconds have room for. The cursor says since when the reader was told, and what: it
        is the database's, so any instance can answer it. What the reader knows already may be told again."""
        until = asyncio.get_running_loop().time() + wait_s
        since, known = _parse(cursor)
        if since is not None and since > self._now_s():
            # From a clock that is ahead of ours by more than the overlap: what is news would count as known.
            since = None
        while True:
            news = self._readings.news
            reading = await self._readings.of(since)
            if since is None or reading.digest != known or next_look() > until:
                break
            await self._readings.until_next_look(news)
        return Changes(
            self._cursor(reading, since),
            complete=since is None,
            items=() if since is not None and reading.digest == known else tuple(map(_revoked, reading.rows)),
        )

    def _cursor(self, reading: _Reading, since: int | None) -> str:
        """``since`` moves on in steps, so that a reader who knows everything is not answered for it; in the
        same ones for all, so that they ask for the same rows."""
        oldest = max((self._now_s() // OVERLAP_S - 1) * OVERLAP_S, 0)
        if since is not None and since >= oldest:
            return f"{since}-{reading.digest}"
        return f"{oldest}-{_digest([row for row in reading.rows if row.expires_at > oldest + KEPT_TOKEN_S])}"

    @reads
    def _read(self, session: Session, since: int | None) -> _Reading:
        """What is dated after ``since``; None: what is in force."""
        at = self._now_s() if since is None else since + KEPT_TOKEN_S
        rows = repository.current_revocations(session, at)
        return _Reading(rows, _digest(rows))

    async def load(self) -> None:
        """At start: everything that still matters."""
        for row in (await self._readings.of(None)).rows:
            await _revoked(row).enter(self._revocations)

    def _save(self, session: Session, row: Revocation) -> Revocation:
        # Another instance's clock may be ahead: what it revoked stays so. A member's tokens may have been
        # dated into the second that is stored, and these end now: it must grow.
        stored = repository.revocation(session, row.key, to_change=True)
        if stored is not None:
            more = 0 if row.session_id is not None else 1
            row.issued_before = max(row.issued_before, stored.issued_before + more)
        row.expires_at = row.issued_before + KEPT_TOKEN_S
        repository.forget_old_revocations(session, self._now_s())
        repository.save_revocation(session, row)
        return row

    def _now_s(self) -> int:
        return self._clock.now_ms() // 1000


def _member_key(tenant_id: str, user_id: str) -> str:
    return f"{tenant_id}/{user_id}"


def _digest(rows: Sequence[CurrentRevocation]) -> str:
    dated = sorted(f"{row.key} {row.issued_before}" for row in rows)
    return hashlib.blake2b("\n".join(dated).encode(), digest_size=12).hexdigest()


def _parse(cursor: str) -> tuple[int | None, str]:
    since, _, digest = cursor.partition("-")
    if not (digest and since.isascii() and since.isdigit() and len(since) < 12):
        return None, ""
    return int(since), digest


def _revoked(row: Revocation | CurrentRevocation) -> Revoked:
    if row.session_id is not None:
        return Revoked(row.expires_at, session_id=row.session_id)
    return Revoked(row.issued_before, tenant_id=row.tenant_id, user_id=row.user_id)
