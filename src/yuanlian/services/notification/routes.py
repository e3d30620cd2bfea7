"""HTTP in and out (CONTRACT §11)."""

from __future__ import annotations

from litestar import Response, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery, JSONBody

from yuanlian.kit.envelope import Body, Envelope, Page
from yuanlian.kit.http.app import caller, reply, require
from yuanlian.kit.http.headers import IdempotencyKey
from yuanlian.kit.http.pagination import DEFAULT_LIMIT, Limit, decode_cursor
from yuanlian.services.notification.repository import ReceiptKey
from yuanlian.services.notification.schemas import (
    AnnouncementSent,
    NewAnnouncement,
    NotificationView,
    ReceiptView,
)
from yuanlian.services.notification.service import NotificationService


def routes(service: NotificationService) -> list[HTTPRouteHandler]:
    @get("/api/notifications", summary="Own inbox, the newest first")
    async def inbox(
        limit: Limit = DEFAULT_LIMIT, cursor: FromQuery[str | None] = None, unread: FromQuery[bool] = False
    ) -> Response[Envelope[Page[NotificationView]]]:
        principal = require("notification.read")
        page = await service.inbox(principal.user_id, before=_position(cursor), unread=unread, limit=limit)
        return reply(page)

    @post("/api/notifications/{notification_id:str}/read", status_code=200, summary="Mark one's own as read")
    async def read(notification_id: FromPath[str]) -> Response[Envelope[NotificationView]]:
        principal = require("notification.read")
        return reply(await service.mark_read(notification_id, principal.user_id))

    @get("/api/notifications/{id_:str}/receipts", summary="Whom it reached, per recipient and channel")
    async def receipts(
        id_: FromPath[str], limit: Limit = DEFAULT_LIMIT, cursor: FromQuery[str | None] = None
    ) -> Response[Envelope[Page[ReceiptView]]]:
        page = await service.receipts(caller(), id_, after=_receipt_position(cursor), limit=limit)
        return reply(page)

    @post("/api/notifications/announcements", summary="Tell an audience")
    async def announce(
        data: JSONBody[Body[NewAnnouncement]], idempotency_key: IdempotencyKey = None
    ) -> Response[Envelope[AnnouncementSent]]:
        sent = await service.announce(require("announcement.write"), data.data, idempotency_key)
        return reply(sent, 200 if sent.duplicate else 201)

    return [inbox, read, receipts, announce]


def _position(cursor: str | None) -> str | None:
    key = decode_cursor(cursor, str, of="notifications")
    return str(key[0]) if key else None


def _receipt_position(cursor: str | None) -> ReceiptKey | None:
    key = decode_cursor(cursor, str, str, of="receipts")
    return (str(key[0]), str(key[1])) if key else None
