"""HTTP in and out (CONTRACT §11)."""

from __future__ import annotations

from datetime import date
from typing import Annotated

from litestar import Response, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromQuery, JSONBody, QueryParameter

from yuanlian.kit.envelope import Body, Envelope, Page
from yuanlian.kit.http.app import reply, require
from yuanlian.kit.http.pagination import DEFAULT_LIMIT, Limit
from yuanlian.services.analytics.schemas import ClassDay, RebuildRange, Rebuilt, Summary
from yuanlian.services.analytics.service import READ, WRITE, AnalyticsService

From = Annotated[date, QueryParameter(name="from", description="first day")]
To = Annotated[date, QueryParameter(name="to", description="last day, included; at most 366 days")]
ClassId = Annotated[str | None, QueryParameter(name="classId", max_length=64)]


def routes(service: AnalyticsService) -> list[HTTPRouteHandler]:
    @get("/api/analytics/attendance/daily", summary="Attendance per class and day")
    async def daily(
        start: From,
        end: To,
        class_id: ClassId = None,
        limit: Limit = DEFAULT_LIMIT,
        cursor: FromQuery[str | None] = None,
    ) -> Response[Envelope[Page[ClassDay]]]:
        principal = require(READ)
        return reply(await service.daily(principal, start, end, class_id, limit=limit, cursor=cursor))

    @get("/api/analytics/attendance/summary", summary="Totals, days and the best classes")
    async def summary(start: From, end: To) -> Response[Envelope[Summary]]:
        return reply(await service.summary(require(READ), start, end))

    @post("/api/analytics/attendance/rebuild", status_code=200, summary="Make a range what history says")
    async def rebuild(data: JSONBody[Body[RebuildRange]]) -> Response[Envelope[Rebuilt]]:
        wanted = data.data
        return reply(await service.rebuild(require(WRITE), wanted.start, wanted.end))

    return [daily, summary, rebuild]
