"""From what the tenant service tells of a child's day to the row that is counted. No I/O."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date

import msgspec

from yuanlian.contracts.attendance import AttendanceUpdated, StudentDay
from yuanlian.kit.errors import ValidationError
from yuanlian.kit.messaging.message import Message
from yuanlian.services.analytics.repository import DayRow, DayState, StudentDate

CAME = frozenset(("present", "late", "left"))


def newest(messages: Iterable[Message]) -> list[DayRow]:
    """One row per child and day: the newest state that these messages tell of.

    Raises:
        msgspec.ValidationError, ValidationError: a message is malformed.
    """
    found: dict[tuple[str, StudentDate], DayState] = {}
    for message in messages:
        event = msgspec.convert(message.data, AttendanceUpdated)
        key = message.tenantId, StudentDate(event.studentId, _day(event.date))
        if key not in found or found[key].version < event.dayVersion:
            found[key] = _state(event.dayState, event.dayVersion, event)
    return [row(tenant_id, key, state) for (tenant_id, key), state in found.items()]


def remembered(day: StudentDay) -> tuple[StudentDate, DayState]:
    """The same of a row of history."""
    return StudentDate(day.studentId, _day(day.date)), _state(day.state, day.version, day)


def row(tenant_id: str, key: StudentDate, state: DayState) -> DayRow:
    return DayRow(tenant_id, key.date.isoformat(), key.student_id, *state)


def _state(state: str, version: int, told: AttendanceUpdated | StudentDay) -> DayState:
    """Messages from before arrivals were told apart say no more than their state does."""
    return DayState(
        class_id=told.classId,
        class_name=told.className,
        state=state,
        attended=told.attended or state in CAME,
        arrived_late=told.arrivedLate or state == "late",
        version=version,
    )


def _day(iso: str) -> date:
    try:
        return date.fromisoformat(iso)
    except ValueError:
        raise ValidationError.of("date", "日期格式不正确", "is not an ISO date") from None
