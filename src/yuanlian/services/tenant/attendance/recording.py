"""Recording one group of attendance events, of any tenants, in one transaction.

Reads for the whole group come first, then every item is judged and folded in memory, in order, and
what is new is written with one statement per table. An item that is refused costs the others nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import msgspec
from sqlalchemy.orm import Session

from yuanlian.contracts.attendance import ATTENDANCE_UPDATE, AttendanceUpdated, Recipient
from yuanlian.kit.clock import local_date
from yuanlian.kit.database.bulk import Row
from yuanlian.kit.errors import AppError, ConflictError, FieldError, NotFoundError, ValidationError
from yuanlian.kit.i18n import Text
from yuanlian.kit.identity.principal import Principal
from yuanlian.kit.ids import new_id
from yuanlian.kit.messaging import outbox
from yuanlian.kit.messaging.message import Message
from yuanlian.services.tenant.access import NO_TIES, Access, Attributes, attributes_of_many
from yuanlian.services.tenant.attendance.day import Calendar, Day, fold, unchecked
from yuanlian.services.tenant.attendance.repository import AttendanceRepository, DayKey, Key
from yuanlian.services.tenant.attendance.schemas import AttendanceEventIn, AttendanceEventOut, By
from yuanlian.services.tenant.wording import NO_STUDENT

PERMISSION = "attendance.write"
LATE_MS = 30 * 60 * 1000
"""An event received longer than this after it occurred announces nothing as new."""
CLOCK_SKEW_MS = 5 * 60 * 1000
OLDEST_MS = 31 * 24 * 3600 * 1000


@dataclass(frozen=True, slots=True)
class Submission:
    """An event as it came in; ``event_id`` is the client's, or made for it."""

    principal: Principal
    event: AttendanceEventIn
    event_id: str
    received_at: int
    request_id: str

    @property
    def key(self) -> Key:
        return self.principal.tenant_id, self.event.studentId

    @property
    def occurred_at(self) -> int:
        return self.received_at if self.event.occurredAt is None else self.event.occurredAt


@dataclass(slots=True)
class _Known:
    """What the database knew when the group began, and what the group adds to it."""

    calendars: dict[str, Calendar]
    students: dict[Key, Any]
    attributes: dict[tuple[str, str], Attributes]
    recipients: dict[Key, tuple[Recipient, ...]]
    recorded: dict[Key, AttendanceEventOut]
    days: dict[DayKey, Day]
    stored_days: frozenset[DayKey]
    touched_days: dict[DayKey, str] = field(default_factory=dict)
    events: list[Row] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)


def record(
    session: Session, access: Access, submissions: Sequence[Submission]
) -> list[AttendanceEventOut | Exception]:
    """One result per submission, in order: the recorded event, the first one for a repeat, or the
    ``AppError`` of that submission alone."""
    repository = AttendanceRepository(session)
    known = _look_up(session, repository, submissions)
    results = [_judge(known, access, submission) for submission in submissions]
    repository.add_events(known.events)
    _store_days(repository, known)
    outbox.add(session, known.messages)
    return results


def _look_up(session: Session, repository: AttendanceRepository, submissions: Sequence[Submission]) -> _Known:
    calendars = repository.calendars({s.principal.tenant_id for s in submissions})
    students = {s.event.studentId for s in submissions}
    asking = {
        (s.principal.tenant_id, s.principal.user_id)
        for s in submissions
        if not s.principal.holds_unconditionally(PERMISSION)
    }
    announced = {s.event.studentId for s in submissions if not _is_late(s)}
    days = repository.days_of(students, _dates(calendars, submissions))
    return _Known(
        calendars=calendars,
        students=repository.students(students),
        attributes=attributes_of_many(session, asking) if asking else {},
        recipients=repository.recipients_of(announced) if announced else {},
        recorded={
            key: as_recorded(row)
            for key, row in repository.events_of({s.event_id for s in submissions}).items()
        },
        days=days,
        stored_days=frozenset(days),
    )


def _dates(calendars: dict[str, Calendar], submissions: Sequence[Submission]) -> Collection[date]:
    return {
        local_date(s.occurred_at, calendars[s.principal.tenant_id].zone)
        for s in submissions
        if s.principal.tenant_id in calendars and _plausible(s)
    }


def _judge(known: _Known, access: Access, submission: Submission) -> AttendanceEventOut | Exception:
    try:
        student = _admit(known, access, submission)
        first = known.recorded.get((submission.principal.tenant_id, submission.event_id))
        if first is not None:
            return _repeat(first, submission)
        _require_plausible(submission, student)
        return _accept(known, submission, student)
    except AppError as error:
        return error


def _admit(known: _Known, access: Access, submission: Submission) -> Any:
    """The student, whom the caller may check in."""
    tenant_id = submission.principal.tenant_id
    student = known.students.get(submission.key)
    if student is None or tenant_id not in known.calendars:
        raise NotFoundError(
            NO_STUDENT,
            [FieldError("studentId", Text("幼儿不存在", "does not exist"))],
        )
    attributes = known.attributes.get((tenant_id, submission.principal.user_id), NO_TIES)
    access.check_student(submission.principal, PERMISSION, student, attributes)
    return student


def _require_plausible(submission: Submission, student: Any) -> None:
    """Asked of new events only: a repeat gets its first result however late it is repeated."""
    if submission.occurred_at > submission.received_at + CLOCK_SKEW_MS:
        raise ValidationError.of("occurredAt", "发生时间不能在将来", "must not be in the future")
    if submission.occurred_at < submission.received_at - OLDEST_MS:
        raise ValidationError.of("occurredAt", "发生时间过早", "is too long ago")
    if student.status != "active":
        raise ConflictError(Text("该幼儿已不在园", "The student is no longer enrolled"))


def _repeat(first: AttendanceEventOut, submission: Submission) -> AttendanceEventOut:
    """The first result again, but only to somebody who repeats that very event: an event id must not
    be a way to read another child's record."""
    if first.studentId != submission.event.studentId or first.type != submission.event.type:
        raise ConflictError(
            Text("事件编号已用于另一事件", "The event id belongs to a different event"),
            [FieldError("eventId", Text("已被使用", "is already used"))],
        )
    return msgspec.structs.replace(first, duplicate=True)


def _accept(known: _Known, submission: Submission, student: Any) -> AttendanceEventOut:
    tenant_id, event = submission.principal.tenant_id, submission.event
    calendar = known.calendars[tenant_id]
    day_date = local_date(submission.occurred_at, calendar.zone)
    key = (tenant_id, student.id, day_date)
    day = fold(
        known.days.get(key) or unchecked(), event.type, submission.occurred_at, event.temperature, calendar
    )
    known.days[key] = day
    known.touched_days[key] = student.class_id
    recorded = AttendanceEventOut(
        id=new_id("attendance"),
        eventId=submission.event_id,
        studentId=student.id,
        classId=student.class_id,
        type=event.type,
        date=day_date.isoformat(),
        occurredAt=submission.occurred_at,
        receivedAt=submission.received_at,
        recordedBy=submission.principal.user_id,
        dayState=day.state,
        method=event.method,
        temperature=event.temperature,
        by=event.by,
        note=event.note,
    )
    known.recorded[tenant_id, submission.event_id] = recorded
    known.events.append(_event_row(tenant_id, recorded))
    known.messages.append(_announcement(known, submission, student, recorded, day))
    return recorded


def _announcement(
    known: _Known, submission: Submission, student: Any, recorded: AttendanceEventOut, day: Day
) -> Message:
    late = _is_late(submission)
    data = AttendanceUpdated(
        id=recorded.id,
        studentId=student.id,
        studentName=student.name,
        classId=student.class_id,
        className=student.class_name,
        type=recorded.type,
        dayState=recorded.dayState,
        dayVersion=day.version,
        date=recorded.date,
        occurredAt=recorded.occurredAt,
        receivedAt=recorded.receivedAt,
        late=late,
        attended=day.attended,
        arrivedLate=day.arrived_late(known.calendars[submission.principal.tenant_id]),
        method=recorded.method,
        temperature=recorded.temperature,
        timeZone=known.calendars[submission.principal.tenant_id].zone.key,
        recipients=() if late else known.recipients.get(submission.key, ()),
    )
    return Message(
        id=new_id("msg"),
        type=ATTENDANCE_UPDATE,
        timestamp=submission.received_at,
        tenantId=submission.principal.tenant_id,
        data=data,
        requestId=submission.request_id,
        userId=submission.principal.user_id,
    )


def _store_days(repository: AttendanceRepository, known: _Known) -> None:
    added: dict[DayKey, tuple[str, Day]] = {}
    changed: dict[DayKey, tuple[str, Day]] = {}
    for key, class_id in known.touched_days.items():
        (changed if key in known.stored_days else added)[key] = (class_id, known.days[key])
    repository.add_days(added)
    repository.change_days(changed)


def _is_late(submission: Submission) -> bool:
    return submission.received_at - submission.occurred_at > LATE_MS


def _plausible(submission: Submission) -> bool:
    age = submission.received_at - submission.occurred_at
    return -CLOCK_SKEW_MS <= age <= OLDEST_MS


def _event_row(tenant_id: str, recorded: AttendanceEventOut) -> Row:
    return (
        tenant_id,
        recorded.id,
        recorded.eventId,
        recorded.studentId,
        recorded.classId,
        recorded.type,
        recorded.date,
        recorded.occurredAt,
        recorded.receivedAt,
        recorded.method,
        recorded.temperature,
        recorded.by.name if recorded.by else None,
        recorded.by.relation if recorded.by else None,
        recorded.note,
        recorded.recordedBy,
        recorded.dayState,
    )


def as_recorded(row: Any) -> AttendanceEventOut:
    return AttendanceEventOut(
        id=row.id,
        eventId=row.event_id,
        studentId=row.student_id,
        classId=row.class_id,
        type=row.type,
        date=row.date.isoformat(),
        occurredAt=row.occurred_at,
        receivedAt=row.received_at,
        recordedBy=row.recorded_by,
        dayState=row.day_state,
        method=row.method,
        temperature=row.temperature,
        by=By(row.by_name, row.by_relation) if row.by_name else None,
        note=row.note,
    )
