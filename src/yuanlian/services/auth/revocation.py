"""Revocations that survive a restart: stored with the change that caused them, told after its commit."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy.orm import Session

from yuanlian.kit.clock import Clock
from yuanlian.kit.database.database import Database, reads
from yuanlian.kit.feed import Feed
from yuanlian.kit.identity.revocation import Revocations, Revoked
from yuanlian.kit.identity.tokens import CLOCK_SKEW_S, LIFETIME_S
from yuanlian.services.auth import repository
from yuanlian.services.auth.models import Revocation


class RevocationLog:
    """``…_revoked`` inside the transaction; ``tell`` with what they returned after it. ``feed``: for the
    gateways in other processes."""

    def __init__(self, database: Database, revocations: Revocations, clock: Clock) -> None:
        self.database = database
        self._revocations = revocations
        self._clock = clock
        self.feed: Feed[Revoked] = Feed(self._in_force)

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
        """Tokens issued up to and within the current second."""
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
        revoked = [_revoked(row) for row in rows]
        for entry in revoked:
            await entry.enter(self._revocations)
        self.feed.extend(revoked)

    async def load(self) -> None:
        """At start: everything that still matters."""
        for entry in await self._in_force():
            await entry.enter(self._revocations)

    async def _in_force(self) -> list[Revoked]:
        return [_revoked(row) for row in await self._current()]

    @reads
    def _current(self, session: Session) -> list[Revocation]:
        return repository.current_revocations(session, self._now_s())

    def _save(self, session: Session, row: Revocation) -> Revocation:
        row.expires_at = row.issued_before + LIFETIME_S + CLOCK_SKEW_S
        repository.forget_old_revocations(session, self._now_s())
        repository.save_revocation(session, row)
        return row

    def _now_s(self) -> int:
        return self._clock.now_ms() // 1000


def _member_key(tenant_id: str, user_id: str) -> str:
    return f"{tenant_id}/{user_id}"


def _revoked(row: Revocation) -> Revoked:
    if row.session_id is not None:
        return Revoked(row.expires_at, session_id=row.session_id)
    return Revoked(row.issued_before, tenant_id=row.tenant_id, user_id=row.user_id)
