"""Attendance events, published by the tenant service."""

from __future__ import annotations

from typing import Literal

import msgspec

from yuanlian.kit.tenancy.directory import DEFAULT_ZONE

ATTENDANCE_UPDATE = "attendance.update"

EventType = Literal["check_in", "check_out", "absent", "leave"]
DayState = Literal["unchecked", "present", "late", "absent", "leave", "left"]


class Recipient(msgspec.Struct, frozen=True, omit_defaults=True):
    """A guardian who was entitled to hear of it when it was committed. ``userId`` is absent for a
    guardian who cannot sign in."""

    guardianId: str
    name: str
    relation: str
    userId: str | None = None
    email: str | None = None
    phone: str | None = None


class AttendanceUpdated(msgspec.Struct, frozen=True, omit_defaults=True):
    """One attendance event was recorded. Times in epoch ms; ``date`` is ISO, the tenant's day
    in ``timeZone`` (IANA), in which times are told to people.

    ``late``: it occurred long before it was received; it changes counts, and announces nothing as
    new. ``dayVersion`` grows with every event of that child's day, so that a consumer can tell
    which of two states is the newer one whatever the order of delivery. ``recipients`` is a
    snapshot of the transaction: the right adults at that moment (DESIGN §6 invariant 4).
    ``attended``: the child came that day, ``arrivedLate``: later than its kindergarten begins; both
    stay true when the child has left. Messages from before these two do not have them.
    """

    id: str
    studentId: str
    studentName: str
    classId: str
    className: str
    type: EventType
    dayState: DayState
    dayVersion: int
    date: str
    occurredAt: int
    receivedAt: int
    late: bool = False
    method: str | None = None
    temperature: float | None = None
    recipients: tuple[Recipient, ...] = ()
    timeZone: str = DEFAULT_ZONE
    attended: bool = False
    arrivedLate: bool = False


class StudentDay(msgspec.Struct, frozen=True):
    """A row of ``GET /api/tenant/attendance/days``: what analytics are rebuilt from. ``attended`` and
    ``arrivedLate`` as in ``AttendanceUpdated``."""

    studentId: str
    classId: str
    className: str
    date: str
    state: DayState
    version: int
    attended: bool = False
    arrivedLate: bool = False
