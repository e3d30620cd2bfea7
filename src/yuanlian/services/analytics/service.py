"""The rules of counting attendance: newest state wins, and everybody sees their own classes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import date
from typing import Any

import msgspec
from sqlalchemy import Row
from sqlalchemy.orm import Session

from yuanlian.contracts import tenant
from yuanlian.contracts.attendance import AttendanceUpdated, StudentDay
from yuanlian.kit.database.database import Database
from yuanlian.kit.envelope import Page
from yuanlian.kit.errors import AuthorizationError, FieldError, ValidationError
from yuanlian.kit.http.client import ServiceClient
from yuanlian.kit.i18n import Text
from yuanlian.kit.identity.principal import Principal
from yuanlian.kit.messaging import inbox
from yuanlian.kit.messaging.message import Message
from yuanlian.services.analytics.repository import (
    AnalyticsRepository,
    DayRow,
    DayState,
    StudentDate,
)
from yuanlian.services.analytics.schemas import ClassDay, ClassRate, Counts, Day, Rebuilt, Summary

CONSUMER = "analytics"
MAX_DAYS = 366
YEARS = range(2000, 2101)
TOP_CLASSES = 10
HISTORY_PAGE = 200


class AnalyticsService:
    def __init__(self, *, database: Database, client: ServiceClient) -> None:
        self.database = database
        self._client = client

    # -- events -------------------------------------------------------------------------------

    async def count(self, messages: Sequence[Message]) -> None:
        """Brings each child's day to its newest state, whatever order the events arrive in. Late
        ones count too. One statement, however many messages and tenants."""

        def work(session: Session, fresh: Sequence[Message]) -> None:
            AnalyticsRepository(session).store(_newest(fresh))

        await inbox.once(self.database, CONSUMER, messages, work)

    # -- reading ------------------------------------------------------------------------------

    async def daily(
        self, principal: Principal, start: date, end: date, class_id: str | None
    ) -> Page[ClassDay]:
        """One item per class and day with a record, in that order; all on one page.

        Raises:
            ValidationError: the range.
            AuthorizationError: a class that is not the caller's.
        """
        _check_range(start, end)
        classes = await self._classes_of(principal, class_id)
        rows = await self.database.read(
            lambda s: AnalyticsRepository(s).per_class_and_day(start, end, classes)
        )
        items = [ClassDay(row.date, row.class_id, row.class_name, *_numbers(row)) for row in rows]
        return Page(items, total=len(items))

    async def summary(self, principal: Principal, start: date, end: date) -> Summary:
        """Totals, days and the best classes of what the caller may see.

        Raises:
            ValidationError: the range.
        """
        _check_range(start, end)
        classes = await self._classes_of(principal, None)
        return await self.database.read(lambda s: _summary(AnalyticsRepository(s), start, end, classes))

    async def _classes_of(self, principal: Principal, wanted: str | None) -> Collection[str] | None:
        """The classes to count, None for all. Who holds ``analytics.read`` under a condition sees
        the classes they follow; the tenant service knows which those are."""
        if principal.holds_unconditionally("analytics.read"):
            return None if wanted is None else [wanted]
        answer = await self._client.call(tenant.SERVICE, "GET", tenant.CHANNELS_PATH, principal=principal)
        followed = msgspec.convert(answer, tenant.Channels).channels
        own = {name.removeprefix("class:") for name in followed if name.startswith("class:")}
        if wanted is None:
            return own
        if wanted not in own:
            raise AuthorizationError
        return [wanted]

    # -- rebuilding ---------------------------------------------------------------------------

    async def rebuild(self, principal: Principal, start: date, end: date) -> Rebuilt:
        """Makes the rows of the range what the attendance history says; a repeat changes nothing.

        An event that arrives meanwhile stays: rows that became newer than the history that was
        read are kept, and only rows that were there before the reading began can be removed.

        Raises:
            ValidationError: the range.
            AuthorizationError: the caller sees only part of the history, which must not replace all.
        """
        if not principal.holds_unconditionally("analytics.write"):
            raise AuthorizationError
        _check_range(start, end)
        before = await self.database.read(lambda s: AnalyticsRepository(s).days(start, end))
        history = await self._history(principal, start, end)

        def replace(session: Session) -> int:
            repository = AnalyticsRepository(session)
            now = repository.days(start, end)
            gone = {
                key: state.version
                for key, state in now.items()
                if key not in history and before.get(key) == state
            }
            wrong = {
                key: state
                for key, state in history.items()
                if key not in now or (now[key] != state and now[key].version <= state.version)
            }
            repository.remove(gone)
            repository.store([_row(principal.tenant_id, key, state) for key, state in wrong.items()])
            return len(gone) + len(wrong)

        changed = await self.database.write(replace)
        return Rebuilt(len(history), changed)

    async def _history(self, principal: Principal, start: date, end: date) -> dict[StudentDate, DayState]:
        found: dict[StudentDate, DayState] = {}
        query = {"from": start.isoformat(), "to": end.isoformat(), "limit": str(HISTORY_PAGE)}
        while True:
            answer = await self._client.call(
                tenant.SERVICE, "GET", tenant.DAYS_PATH, principal=principal, query=query
            )
            page = msgspec.convert(answer, Page[StudentDay])
            for day in page.items:
                key = StudentDate(day.studentId, date.fromisoformat(day.date))
                found[key] = DayState(day.classId, day.className, day.state, day.version)
            if page.nextCursor is None:
                return found
            query = {**query, "cursor": page.nextCursor}


def _newest(messages: Iterable[Message]) -> list[DayRow]:
    """One row per child and day: the newest state that these messages tell of."""
    newest: dict[tuple[str, StudentDate], DayState] = {}
    for message in messages:
        event = msgspec.convert(message.data, AttendanceUpdated)
        key = message.tenantId, StudentDate(event.studentId, _day(event.date))
        if key not in newest or newest[key].version < event.dayVersion:
            newest[key] = DayState(event.classId, event.className, event.dayState, event.dayVersion)
    return [_row(tenant_id, key, state) for (tenant_id, key), state in newest.items()]


def _row(tenant_id: str, key: StudentDate, state: DayState) -> DayRow:
    return DayRow(tenant_id, key.date.isoformat(), key.student_id, *state)


def _day(iso: str) -> date:
    try:
        return date.fromisoformat(iso)
    except ValueError:
        raise ValidationError.of("date", "日期格式不正确", "is not an ISO date") from None


def _check_range(start: date, end: date) -> None:
    problems = [
        FieldError(name, Text("日期超出范围", "is out of range"))
        for name, day in (("from", start), ("to", end))
        if day.year not in YEARS
    ]
    if not problems and end < start:
        problems.append(FieldError("to", Text("不能早于开始日期", "must not be before from")))
    elif not problems and (end - start).days >= MAX_DAYS:
        message = Text("最多 {days} 天", "must be at most {days} days after from").with_(days=MAX_DAYS)
        problems.append(FieldError("to", message))
    if problems:
        raise ValidationError(details=problems)


def _summary(
    repository: AnalyticsRepository, start: date, end: date, classes: Collection[str] | None
) -> Summary:
    days = [
        Day(row.date, counts, _rate(counts))
        for row in repository.per_day(start, end, classes)
        if (counts := _counts(row))
    ]
    rates = [
        ClassRate(row.class_id, row.class_name, counts, _rate(counts))
        for row in repository.per_class(start, end, classes)
        if (counts := _counts(row))
    ]
    rates.sort(key=lambda rate: -(rate.attendanceRate or 0))
    totals = _sum([day.counts for day in days])
    return Summary(totals, _rate(totals), days, rates[:TOP_CLASSES])


def _numbers(row: Row[Any]) -> list[int]:
    """The fields of ``Counts``, in order. (MySQL sums to a DECIMAL.)"""
    return [int(getattr(row, name)) for name in Counts.__struct_fields__]


def _counts(row: Row[Any]) -> Counts:
    return Counts(*_numbers(row))


def _sum(many: Sequence[Counts]) -> Counts:
    return Counts(*(sum(getattr(c, name) for c in many) for name in Counts.__struct_fields__))


def _rate(counts: Counts) -> float | None:
    came = counts.present + counts.late + counts.left
    return round(came / counts.total, 4) if counts.total else None
