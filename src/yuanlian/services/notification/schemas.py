"""What the notification API takes and gives (CONTRACT §11). Times are epoch milliseconds."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

Channel = Literal["inapp", "email"]
ReceiptStatus = Literal["queued", "sent", "delivered", "failed", "not_reached"]


class NewAnnouncement(msgspec.Struct, forbid_unknown_fields=True):
    """``audience``: ``tenant`` (everybody), ``staff`` or ``class:ID``."""

    title: Annotated[str, msgspec.Meta(min_length=1, max_length=100, pattern=r"\S")]
    body: Annotated[str, msgspec.Meta(min_length=1, max_length=5000, pattern=r"\S")]
    # Python's ``$`` also stands before a newline at the end.
    audience: Annotated[str, msgspec.Meta(pattern=r"^(tenant|staff|class:[A-Za-z0-9_.-]{1,64})$(?!\n)")]


class AnnouncementSent(msgspec.Struct):
    """``recipients``: how many people it was addressed to. ``duplicate``: a repeat of an earlier call."""

    id: str
    recipients: int
    duplicate: bool = False


class NotificationView(msgspec.Struct):
    """``data``: the facts behind the text, for clients that show them their own way."""

    id: str
    kind: str
    title: str
    body: str
    data: dict[str, Any]
    createdAt: int
    readAt: int | None = None


class ReceiptView(msgspec.Struct):
    id: str
    notificationId: str
    recipient: str
    channel: Channel
    status: ReceiptStatus
    updatedAt: int
    reason: str | None = None
