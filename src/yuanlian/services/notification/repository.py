"""All SQL of notifications. Rows are written many at a time, whatever their number one statement."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, cast

from sqlalchemy import Row, Table, insert, select, update
from sqlalchemy.orm import Session

from yuanlian.services.notification.models import Announcement, Notification, Receipt

RecipientKey = tuple[str, str, str]
"""(tenant, source, recipient): whom something was told to."""

_ANNOUNCEMENTS = cast("Table", Announcement.__table__)
_NOTIFICATIONS = cast("Table", Notification.__table__)
_RECEIPTS = cast("Table", Receipt.__table__)


class NotificationRepository:
    def __init__(self, session: Session) -> None:
        self._session = session

    # -- telling ------------------------------------------------------------------------------

    def told(self, sources: Collection[str]) -> set[RecipientKey]:
        """Who was already told of any of ``sources``."""
        n = _NOTIFICATIONS.c
        found = self._session.execute(
            select(n.tenant_id, n.source_id, n.recipient).where(n.source_id.in_(sources))
        )
        return {(tenant, source, recipient) for tenant, source, recipient in found}

    def add(self, notifications: Sequence[dict[str, Any]], receipts: Sequence[dict[str, Any]]) -> None:
        self._session.execute(insert(_NOTIFICATIONS), notifications)
        self._session.execute(insert(_RECEIPTS), receipts)

    def add_announcement(self, row: dict[str, Any]) -> None:
        self._session.execute(insert(_ANNOUNCEMENTS), row)

    # -- reading ------------------------------------------------------------------------------

    def inbox(self, user_id: str, before: str | None, unread: bool, limit: int) -> Sequence[Row[Any]]:
        """The newest first, older than ``before``."""
        n = _NOTIFICATIONS.c
        query = select(_NOTIFICATIONS).where(n.user_id == user_id).order_by(n.id.desc()).limit(limit)
        if before is not None:
            query = query.where(n.id < before)
        if unread:
            query = query.where(n.read_at.is_(None))
        return self._session.execute(query).all()

    def notification(self, notification_id: str) -> Row[Any] | None:
        query = select(_NOTIFICATIONS).where(_NOTIFICATIONS.c.id == notification_id)
        return self._session.execute(query).one_or_none()

    def mark_read(self, notification_id: str, user_id: str, now: int) -> None:
        n = _NOTIFICATIONS.c
        self._session.execute(
            update(_NOTIFICATIONS)
            .where(n.id == notification_id, n.user_id == user_id, n.read_at.is_(None))
            .values(read_at=now)
        )

    def announcements(self, ids: Collection[str]) -> dict[str, Row[Any]]:
        query = select(_ANNOUNCEMENTS).where(_ANNOUNCEMENTS.c.id.in_(ids))
        return {row.id: row for row in self._session.execute(query)}

    def announcement_by_key(self, sender_id: str, key: str) -> Row[Any] | None:
        a = _ANNOUNCEMENTS.c
        query = select(_ANNOUNCEMENTS).where(a.sender_id == sender_id, a.idempotency_key == key)
        return self._session.execute(query).one_or_none()

    # -- receipts -----------------------------------------------------------------------------

    def receipts_of(self, notification_id: str) -> Sequence[Row[Any]]:
        return self._receipts(_NOTIFICATIONS.c.id == notification_id, None, limit=10)

    def receipts_of_source(self, source_id: str, after: str | None, limit: int) -> Sequence[Row[Any]]:
        """In the order in which they were made."""
        return self._receipts(_NOTIFICATIONS.c.source_id == source_id, after, limit)

    def _receipts(self, which: Any, after: str | None, limit: int) -> Sequence[Row[Any]]:
        joined = _RECEIPTS.join(
            _NOTIFICATIONS,
            (_NOTIFICATIONS.c.id == _RECEIPTS.c.notification_id)
            & (_NOTIFICATIONS.c.tenant_id == _RECEIPTS.c.tenant_id),
        )
        query = select(_RECEIPTS, _NOTIFICATIONS.c.name).select_from(joined).where(which)
        if after is not None:
            query = query.where(_RECEIPTS.c.id > after)
        return self._session.execute(query.order_by(_RECEIPTS.c.id).limit(limit)).all()

    def receipt_statuses(self, ids: Collection[str]) -> dict[str, str]:
        r = _RECEIPTS.c
        found = self._session.execute(select(r.id, r.status).where(r.id.in_(ids)))
        return {row.id: row.status for row in found}

    def settle_receipts(self, ids: Collection[str], status: str, reason: str | None, now: int) -> None:
        self._session.execute(
            update(_RECEIPTS)
            .where(_RECEIPTS.c.id.in_(ids))
            .values(status=status, reason=reason, updated_at=now)
        )
