"""The rules of counting attendance: newest state wins, and everybody sees their own classes."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import date, timedelta
from typing import Any

import msgspec
from sqlalchemy import Row
from sqlalchemy.orm import Session

from yuanlian.contracts import tenant
from yuanlian.kit.clock import Clock
from yuanlian.kit.database.database import Database
from yuanlian.kit.envelope import Page
from yuanlian.kit.errors import AuthorizationError, FieldError, ValidationError
from yuanlian.kit.http.client import ServiceClient
from yuanlian.kit.http.pagination import decode_cursor, encode_cursor
from yuanlian.kit.i18n import Text
from yuanlian.kit.identity.decision import Authorizer
from yuanlian.kit.identity.principal import Principal
from yuanlian.kit.messaging import inbox
from yuanlian.kit.messaging.message import Message
from yuanlian.services.analytics.counting import newest
from yuanlian.services.analytics.rebuilding import rebuild_day
from yuanlian.services.analytics.repository import AnalyticsRepository
from yuanlian.services.analytics.schemas import ClassDay, ClassRate, Counts, Day, Rebuilt, Summary

READ = "analytics.read"
WRITE = "analytics.write"
CONSUMER = "analytics"
DAILY = "analytics.daily"
MAX_DAYS = 366
YEARS = range(2000, 2101)
TOP_CLASSES = 10


class AnalyticsService:
    def __init__(self, *, database: Database, client: ServiceClient, clock: Clock) -> None:
        self.database = database
        self._client = client
        self._authorizer = Authorizer(clock)

    # -- events -------------------------------------------------------------------------------

    async def count(self, messages: Sequence[Message]) -> None:
        """Brings each child's day to its newest state, whatever order the events arrive in. Late
        ones count too. One statement, however many messages and tenants."""

        def work(session: Session, fresh: Sequence[Message]) -> None:
            AnalyticsRepository(session).store(newest(fresh))

        await inbox.once(self.database, CONSUMER, messages, work)

    # -- reading ------------------------------------------------------------------------------

    async def daily(
        self,
        principal: Principal,
        start: date,
        end: date,
        class_id: str | None,
        *,
        limit: int,
        cursor: str | None,
    ) -> Page[ClassDay]:
        """One item per class and day with a record, in order of day and class. Not counted in advance:
        that would cost as much as reading them all.

        Raises:
            ValidationError: the range, the cursor.
            AuthorizationError: a class that is not the caller's.
        """
        _check_range(start, end)
        key = decode_cursor(cursor, date, str, of=DAILY)
        after = (key[0], key[1]) if key else None
        classes = await self._classes_of(principal, class_id, start, end)
        rows = await self.database.read(
            lambda s: AnalyticsRepository(s).per_class_and_day(start, end, classes, after, limit + 1)
        )
        last = rows[limit - 1] if len(rows) > limit else None
        return Page(
            [ClassDay(row.date, row.class_id, row.class_name, *_numbers(row)) for row in rows[:limit]],
            encode_cursor(last.date.isoformat(), last.class_id, of=DAILY) if last else None,
        )

    async def summary(self, principal: Principal, start: date, end: date) -> Summary:
        """Totals, days and the best classes of what the caller may see.

        Raises:
            ValidationError: the range.
        """
        _check_range(start, end)
        classes = await self._classes_of(principal, None, start, end)
        return await self.database.read(lambda s: _summary(AnalyticsRepository(s), start, end, classes))

    async def _classes_of(
        self, principal: Principal, wanted: str | None, start: date, end: date
    ) -> Collection[str] | None:
        """The classes to count, None for all. A condition of ``analytics.read`` decides about each class
        that occurs in the range; the tenant service knows what it must know about the caller."""
        if principal.holds_unconditionally(READ):
            return None if wanted is None else [wanted]
        answer = await self._client.call(tenant.SERVICE, "GET", tenant.ATTRIBUTES_PATH, principal=principal)
        ties = msgspec.to_builtins(msgspec.convert(answer, tenant.Attributes))
        if wanted is not None:
            occurring: Sequence[str] = [wanted]
        else:
            occurring = await self.database.read(lambda s: AnalyticsRepository(s).classes(start, end))
        allows = self._authorizer.decider(principal, READ, ties)
        own = [class_id for class_id in occurring if allows({"id": class_id, "classId": class_id})]
        if wanted is not None and not own:
            raise AuthorizationError
        return own

    # -- rebuilding ---------------------------------------------------------------------------

    async def rebuild(self, principal: Principal, start: date, end: date) -> Rebuilt:
        """Makes the rows of the range what the attendance history says; a repeat changes nothing. Day by
        day, so that check-ins go on meanwhile; when it breaks off, the days before are done.

        Raises:
            ValidationError: the range.
            AuthorizationError: the caller sees only part of the history, which must not replace all.
        """
        if not principal.holds_unconditionally(WRITE):
            raise AuthorizationError
        _check_range(start, end)
        total = Rebuilt(0, 0)
        for offset in range((end - start).days + 1):
            day = await rebuild_day(self.database, self._client, principal, start + timedelta(offset))
            total = Rebuilt(total.read + day.read, total.changed + day.changed)
        return total


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
    return round(counts.attended / counts.total, 4) if counts.total else None
