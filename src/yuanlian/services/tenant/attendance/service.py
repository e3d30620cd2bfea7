"""The rules of attendance: recording, the board, history. CONTRACT §6."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import date, datetime, time, timedelta
from typing import Any, cast
from zoneinfo import ZoneInfo

import msgspec
import structlog
from sqlalchemy.orm import Session

from yuanlian.contracts.attendance import StudentDay
from yuanlian.kit.clock import Clock, local_date
from yuanlian.kit.context import current
from yuanlian.kit.database.batching import Batcher
from yuanlian.kit.database.database import Database, reads
from yuanlian.kit.envelope import STATUS, Page
from yuanlian.kit.errors import AppError, AuthorizationError, InternalError, NotFoundError, ValidationError
from yuanlian.kit.http.bodies import explain_value
from yuanlian.kit.http.pagination import decode_cursor, encode_cursor
from yuanlian.kit.identity.principal import Principal
from yuanlian.kit.ids import new_id
from yuanlian.kit.realtime.hub import Realtime
from yuanlian.kit.tenancy.scope import tenant_group
from yuanlian.services.tenant.access import Access, Attributes
from yuanlian.services.tenant.attendance.day import Calendar, Day
from yuanlian.services.tenant.attendance.recording import Submission, as_recorded, record
from yuanlian.services.tenant.attendance.repository import AttendanceRepository
from yuanlian.services.tenant.attendance.schemas import (
    AttendanceEventIn,
    AttendanceEventOut,
    BatchItem,
    BatchOut,
    Board,
    BoardStudent,
    Counts,
    ItemError,
    ItemFailure,
)
from yuanlian.services.tenant.tenants.zones import TimeZones
from yuanlian.services.tenant.wording import NO_CLASS, NO_STUDENT

_log = structlog.get_logger("attendance")

READ = "attendance.read"
WRITE = "attendance.write"
GROUP = 256
EARLIEST_YEAR = 2000


class AttendanceService:
    def __init__(
        self, database: Database, access: Access, realtime: Realtime, clock: Clock, zones: TimeZones
    ) -> None:
        self.database = database
        self._access = access
        self._realtime = realtime
        self._clock = clock
        self._zones = zones
        self._batcher: Batcher[Submission, AttendanceEventOut] = Batcher(self._record, GROUP)

    async def record(
        self, principal: Principal, event: AttendanceEventIn, idempotency_key: str | None = None
    ) -> AttendanceEventOut:
        """Returns after the event and its message are durable, together with other requests' events.

        Raises:
            NotFoundError, AuthorizationError, ValidationError, ConflictError
        """
        submission = Submission(
            principal=principal,
            event=event,
            event_id=event.eventId or idempotency_key or new_id("event"),
            received_at=self._clock.now_ms(),
            request_id=current().request_id,
        )
        return await self._batcher.submit(submission)

    async def record_batch(self, principal: Principal, items: Sequence[Any]) -> BatchOut:
        """Every item stands alone: recorded, recognised as a repeat, or refused with its own error."""
        results = await asyncio.gather(*(self._record_value(principal, item) for item in items))
        out = [_batch_item(index, result) for index, result in enumerate(results)]
        codes = [item.code for item in out]
        return BatchOut(out, codes.count(201), codes.count(200), sum(code >= 400 for code in codes))

    async def board(self, principal: Principal, class_id: str | None, day: date | None) -> Board:
        """The children whom the caller may see, as they are now. The cursor is taken first, so that
        following from it misses nothing."""
        cursor = await self._realtime.cursor(principal.tenant_id)
        zone = await self._zones.of(principal.tenant_id)
        day_date, students = await self._board(principal, zone, class_id, day)
        return Board(day_date.isoformat(), class_id, _count(students), students, cursor)

    @reads
    def _board(
        self,
        session: Session,
        principal: Principal,
        zone: ZoneInfo,
        class_id: str | None,
        day: date | None,
    ) -> tuple[date, list[BoardStudent]]:
        repository = AttendanceRepository(session)
        today = local_date(self._clock.now_ms(), zone)
        day_date = _not_after(today, day)
        attributes = self._access.attributes(session, principal, READ)
        visible = self._access.student_candidates(principal, READ, attributes)
        if class_id is not None and repository.classroom(principal.tenant_id, class_id) is None:
            raise NotFoundError(NO_CLASS)
        rows = repository.board(day_date, self._end_of(day_date, today, zone), class_id, visible)
        seen = self._visible(principal, attributes, rows)
        if class_id is not None and not seen:
            self._access.check_class(principal, READ, class_id, attributes)
        return day_date, [
            BoardStudent(
                r.id,
                r.name,
                r.board_class_id,
                r.state or "unchecked",
                r.first_in_at,
                r.last_out_at,
                r.temperature,
                r.version or 0,
            )
            for r in seen
        ]

    @reads
    def history(
        self,
        session: Session,
        principal: Principal,
        student_id: str | None,
        since: int | None,
        until: int | None,
        limit: int,
        cursor: str | None,
    ) -> Page[AttendanceEventOut]:
        """Recorded events, newest first."""
        repository = AttendanceRepository(session)
        attributes = self._access.attributes(session, principal, READ)
        if student_id is not None:
            student = repository.student(principal.tenant_id, student_id)
            if student is None:
                raise NotFoundError(NO_STUDENT)
            self._access.check_student(principal, READ, student, attributes)
        key: Any = decode_cursor(cursor, int, str, of="attendance.events")
        rows = repository.history(
            student_id=student_id,
            since=since,
            until=until,
            visible=self._access.student_candidates(principal, READ, attributes),
            before=key,
            limit=limit + 1,
        )
        page, last = rows[:limit], rows[limit - 1] if len(rows) > limit else None
        return Page(
            [as_recorded(row) for row in page if self._sees_event(principal, row, attributes)],
            encode_cursor(last.occurred_at, last.id, of="attendance.events") if last is not None else None,
        )

    @reads
    def days(
        self,
        session: Session,
        principal: Principal,
        first: date,
        last: date,
        limit: int,
        cursor: str | None,
    ) -> Page[StudentDay]:
        """Folded days of every child, for those who may read all attendance."""
        if not principal.holds_unconditionally(READ):
            raise AuthorizationError
        after = cast("tuple[date, str] | None", decode_cursor(cursor, date, str, of="attendance.days"))
        repository = AttendanceRepository(session)
        calendar = repository.calendars([principal.tenant_id])[principal.tenant_id]
        rows = repository.days(first, last, after, limit + 1)
        page, more = rows[:limit], len(rows) > limit
        return Page(
            [_student_day(row, calendar) for row in page],
            encode_cursor(page[-1].date.isoformat(), page[-1].student_id, of="attendance.days")
            if more
            else None,
        )

    async def zone(self, tenant_id: str) -> ZoneInfo:
        """The tenant's time zone, for dates that clients write."""
        return await self._zones.of(tenant_id)

    async def _record(self, submissions: Sequence[Submission]) -> Sequence[AttendanceEventOut | Exception]:
        with tenant_group({s.principal.tenant_id for s in submissions}):
            # Every submission has its event id by now, and is recognised by it.
            return await self.database.write(
                lambda session: record(session, self._access, submissions), repeatable=True
            )

    async def _record_value(self, principal: Principal, value: Any) -> AttendanceEventOut | AppError:
        try:
            event = msgspec.convert(value, AttendanceEventIn)
        except msgspec.ValidationError:
            return explain_value(value, AttendanceEventIn)
        try:
            return await self.record(principal, event)
        except AppError as error:
            return error
        except Exception as error:  # noqa: BLE001 - the other items are stored and must be answered
            _log.error("attendance event failed", exc_info=error)
            return InternalError()

    def _end_of(self, day: date, today: date, zone: ZoneInfo) -> int | None:
        """When a past day ended, in epoch ms; None for today, which has not."""
        if day >= today or day == date.max:
            return None
        return int(datetime.combine(day + timedelta(days=1), time(), zone).timestamp() * 1000)

    def _visible(self, principal: Principal, attributes: Attributes, rows: Sequence[Any]) -> Sequence[Any]:
        if principal.holds_unconditionally(READ):
            return rows
        return [row for row in rows if self._access.allows_student(principal, READ, row, attributes)]

    def _sees_event(self, principal: Principal, row: Any, attributes: Attributes) -> bool:
        resource = {"id": row.student_id, "classId": row.student_class_id}
        return self._access.allows(principal, READ, resource, attributes)


def _not_after(today: date, day: date | None) -> date:
    if day is not None and day > today:
        raise ValidationError.of("date", "日期不能在将来", "must not be in the future")
    if day is not None and day.year < EARLIEST_YEAR:
        raise ValidationError.of("date", "日期过早", "is too long ago")
    return day or today


def _student_day(row: Any, calendar: Calendar) -> StudentDay:
    day = Day(row.state, row.state_at, row.first_in_at)
    return StudentDay(
        studentId=row.student_id,
        classId=row.class_id,
        className=row.class_name or "",
        date=row.date.isoformat(),
        state=row.state,
        version=row.version,
        attended=day.attended,
        arrivedLate=day.arrived_late(calendar),
    )


def _count(students: Sequence[BoardStudent]) -> Counts:
    counts = Counts(expected=len(students))
    for student in students:
        setattr(counts, student.state, getattr(counts, student.state) + 1)
    return counts


def _batch_item(index: int, result: AttendanceEventOut | AppError) -> BatchItem:
    if isinstance(result, AttendanceEventOut):
        return BatchItem(index, 200 if result.duplicate else 201, event=result)
    locale = current().locale
    details = [ItemError(d.field, d.message.render(locale)) for d in result.details]
    failure = ItemFailure(result.type, result.code.value, result.message.render(locale), details)
    return BatchItem(index, STATUS[result.code], error=failure)
