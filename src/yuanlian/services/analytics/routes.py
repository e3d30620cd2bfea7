"""HTTP in and out (CONTRACT §11)."""

from __future__ import annotations

from datetime import date
from typing import Annotated

from litestar import Response, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import JSONBody, QueryParameter

from yuanlian.kit.envelope import Body, Envelope, Page
from yuanlian.kit.http.app import reply, require
from yuanlian.services.analytics.schemas import ClassDay, RebuildRange, Rebuilt, Summary
from yuanlian.services.analytics.service import AnalyticsService

From = Annotated[date, QueryParameter(name="from", description="first day")]
To = Annotated[date, QueryParameter(name="to", description="last day, included; at most 366 days")]
ClassId = Annotated[str | None, QueryParameter(name="classId", max_length=64)]


def routes(service: AnalyticsService) -> list[HTTPRouteHandler]:
    @get("/api/analytics/attendance/daily", summary="Attendance per class and day")
    async def daily(start: From, end: To, class_id: ClassId = None) -> Response[Envelope[Page[ClassDay]]]:
        return reply(await service.daily(require("analytics.read"), start, end, class_id))

    @get("/api/analytics/attendance/summary", summary="Totals, days and the best classes")
    async def summary(start: From, end: To) -> Response[Envelope[Summary]]:
        return reply(await service.summary(require("analytics.read"), start, end))

    @post("/api/analytics/attendance/rebuild", status_code=200, summary="Make a range what history says")
    async def rebuild(data: JSONBody[Body[RebuildRange]]) -> Response[Envelope[Rebuilt]]:
        wanted = data.data
        return reply(await service.rebuild(require("analytics.write"), wanted.start, wanted.end))

    return [daily, summary, rebuild]
