"""HTTP of attendance. CONTRACT §6."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from typing import Annotated
from zoneinfo import ZoneInfo

from litestar import Response, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromQuery, JSONBody, QueryParameter

from yuanlian.contracts.attendance import StudentDay
from yuanlian.kit.envelope import Body, Envelope, Page
from yuanlian.kit.errors import ValidationError
from yuanlian.kit.http.app import reply, require
from yuanlian.kit.http.headers import IdempotencyKey
from yuanlian.kit.http.pagination import DEFAULT_LIMIT, Limit
from yuanlian.services.tenant.attendance.schemas import (
    AttendanceEventIn,
    AttendanceEventOut,
    BatchIn,
    BatchOut,
    Board,
)
from yuanlian.services.tenant.attendance.service import READ, WRITE, AttendanceService


def routes(service: AttendanceService) -> list[HTTPRouteHandler]:
    @post("/api/tenant/attendance/events", summary="Record one attendance event", express=True)
    async def record(
        data: JSONBody[Body[AttendanceEventIn]], idempotency_key: IdempotencyKey = None
    ) -> Response[Envelope[AttendanceEventOut]]:
        """201 when recorded; a repeat of the same ``eventId`` or ``Idempotency-Key`` gets the first
        result with 200 and ``duplicate``."""
        recorded = await service.record(require(WRITE), data.data, idempotency_key)
        return reply(recorded, 200 if recorded.duplicate else 201)

    @post("/api/tenant/attendance/events/batch", summary="Record up to 500 events", status_code=200)
    async def record_batch(data: JSONBody[Body[BatchIn]]) -> Response[Envelope[BatchOut]]:
        """Results in the order of the items; each item succeeds or fails alone."""
        return reply(await service.record_batch(require(WRITE), data.data.items))

    @get("/api/tenant/attendance/board", summary="The board of a day")
    async def board(
        classId: FromQuery[str | None] = None,  # noqa: N803 - wire name
        day: Annotated[date | None, QueryParameter(name="date")] = None,
    ) -> Response[Envelope[Board]]:
        """Counts and children of one class, or of every class the caller may see."""
        return reply(await service.board(require(READ), classId, day))

    @get("/api/tenant/attendance/events", summary="History, newest first")
    async def history(
        studentId: FromQuery[str | None] = None,  # noqa: N803 - wire name
        since: Annotated[str | None, QueryParameter(name="from")] = None,
        until: Annotated[str | None, QueryParameter(name="to")] = None,
        limit: Limit = DEFAULT_LIMIT,
        cursor: FromQuery[str | None] = None,
    ) -> Response[Envelope[Page[AttendanceEventOut]]]:
        """``from`` and ``to`` are epoch milliseconds or ISO dates of the tenant; dates are inclusive."""
        principal = require(READ)
        zone = await service.zone(principal.tenant_id)
        first, last = _instant("from", since, zone), _instant("to", until, zone, end=True)
        return reply(await service.history(principal, studentId, first, last, limit, cursor))

    @get("/api/tenant/attendance/days", summary="Folded days, for rebuilding analytics")
    async def days(
        first: Annotated[date, QueryParameter(name="from")],
        last: Annotated[date, QueryParameter(name="to")],
        limit: Limit = DEFAULT_LIMIT,
        cursor: FromQuery[str | None] = None,
    ) -> Response[Envelope[Page[StudentDay]]]:
        """Every child's state of each day in the range; needs unconditional ``attendance.read``."""
        return reply(await service.days(require(READ), first, last, limit, cursor))

    return [record, record_batch, board, history, days]


def _instant(field: str, value: str | None, zone: ZoneInfo, *, end: bool = False) -> int | None:
    """Epoch ms of a query value: milliseconds as they are, a date as its start or its end."""
    if value is None:
        return None
    if value.isascii() and value.isdigit() and len(value) <= 15:
        return int(value)
    try:
        day = date.fromisoformat(value) + timedelta(days=1 if end else 0)
    except (ValueError, OverflowError):
        raise ValidationError.of(
            field, "应为毫秒时间戳或日期", "must be epoch milliseconds or a date"
        ) from None
    return int(datetime.combine(day, time(), zone).timestamp() * 1000)
