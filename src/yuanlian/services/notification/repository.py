"""All SQL of notifications. Rows are written many at a time, whatever their number one statement."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from operator import itemgetter
from typing import Any, cast

from sqlalchemy import Row, Table, bindparam, insert, select, update
from sqlalchemy.orm import Session
from sqlalchemy.sql import ColumnElement

from yuanlian.kit.database.bulk import few_lengths, insert_rows
from yuanlian.services.notification.models import Announcement, Notification, Receipt

RecipientKey = tuple[str, str, str]
"""(tenant, source, recipient): whom something was told to."""
ReceiptKey = tuple[str, str]
"""(notification, channel)"""

_ANNOUNCEMENTS = cast("Table", Announcement.__table__)
_NOTIFICATIONS = cast("Table", Notification.__table__)
_RECEIPTS = cast("Table", Receipt.__table__)

_notification_values = itemgetter(*_NOTIFICATIONS.c.keys())
_receipt_values = itemgetter(*_RECEIPTS.c.keys())

_TOLD = select(
    _NOTIFICATIONS.c.tenant_id, _NOTIFICATIONS.c.source_id, _NOTIFICATIONS.c.recipient, _NOTIFICATIONS.c.id
).where(_NOTIFICATIONS.c.source_id.in_(bindparam("sources", expanding=True)))


class NotificationRepository:
    def __init__(self, session: Session) -> None:
        self._session = session

    # -- telling ------------------------------------------------------------------------------

    def told(self, sources: Collection[str]) -> dict[RecipientKey, str]:
        """Who was already told of any of ``sources``, and the id of the notification."""
        found = self._session.connection().execute(_TOLD, {"sources": few_lengths(sources)})
        return {(tenant, source, recipient): id_ for tenant, source, recipient, id_ in found}

    def add(self, notifications: Sequence[dict[str, Any]], receipts: Sequence[dict[str, Any]]) -> None:
        insert_rows(self._session, _NOTIFICATIONS, [_notification_values(row) for row in notifications])
        insert_rows(self._session, _RECEIPTS, [_receipt_values(row) for row in receipts])

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
        """``notification_id channel status reason updated_at`` and the recipient's ``name``."""
        return self._receipts(_NOTIFICATIONS.c.id == notification_id)

    def receipts_of_source(self, source_id: str, after: ReceiptKey | None, limit: int) -> Sequence[Row[Any]]:
        """The same for everybody told of one source, in the order of their keys."""
        n, r = _NOTIFICATIONS.c, _RECEIPTS.c
        which = n.source_id == source_id
        if after is not None:
            id_, channel = after
            which &= (r.notification_id > id_) | ((r.notification_id == id_) & (r.channel > channel))
        return self._receipts(which, limit)

    def _receipts(self, which: ColumnElement[bool], limit: int | None = None) -> Sequence[Row[Any]]:
        n, r = _NOTIFICATIONS.c, _RECEIPTS.c
        joined = _RECEIPTS.join(_NOTIFICATIONS, (n.id == r.notification_id) & (n.tenant_id == r.tenant_id))
        query = select(_RECEIPTS, n.name).select_from(joined).where(which)
        return self._session.execute(query.order_by(r.notification_id, r.channel).limit(limit)).all()

    def sent(self, keys: Collection[ReceiptKey]) -> set[ReceiptKey]:
        """Which of these receipts say ``sent``."""
        r = _RECEIPTS.c
        found = self._session.execute(
            select(r.notification_id, r.channel).where(_is_one_of(keys), r.status == "sent")
        )
        return {(row.notification_id, row.channel) for row in found}

    def settle(self, keys: Collection[ReceiptKey], status: str, reason: str | None, now: int) -> None:
        self._session.execute(
            update(_RECEIPTS).where(_is_one_of(keys)).values(status=status, reason=reason, updated_at=now)
        )


def _is_one_of(keys: Collection[ReceiptKey]) -> ColumnElement[bool]:
    """Of notifications that are all meant on the same channels: a queue serves one channel."""
    r = _RECEIPTS.c
    return r.notification_id.in_({id_ for id_, _ in keys}) & r.channel.in_({channel for _, channel in keys})
