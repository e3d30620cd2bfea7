"""Wire shapes of attendance. CONTRACT §6. Times in epoch milliseconds; ``date`` is the tenant's day."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from yuanlian.contracts.attendance import DayState, EventType
from yuanlian.kit.http.headers import IDEMPOTENCY_KEY

# ``$`` alone would let a final line break pass.
EventId = Annotated[str, Meta(pattern=IDEMPOTENCY_KEY)]
Identifier = Annotated[str, Meta(min_length=1, max_length=64)]
_ONE_LINE = r"^[^\x00-\x1f\x7f]*$(?!\n)"
_TEXT = r"^[^\x00-\x08\x0b-\x1f\x7f]*$"
Method = Literal["staff", "kiosk", "card", "qr"]


class By(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """Who brought or fetched the child."""

    name: Annotated[str, Meta(min_length=1, max_length=50, pattern=_ONE_LINE)]
    relation: Annotated[str, Meta(min_length=1, max_length=20, pattern=_ONE_LINE)] | None = None


class AttendanceEventIn(msgspec.Struct, forbid_unknown_fields=True):
    """One thing that happened at the gate. ``temperature`` in degrees Celsius."""

    studentId: Identifier
    type: EventType
    eventId: EventId | None = None
    occurredAt: Annotated[int, Meta(ge=0)] | None = None
    method: Method | None = None
    temperature: Annotated[float, Meta(ge=34, le=43)] | None = None
    by: By | None = None
    note: Annotated[str, Meta(max_length=500, pattern=_TEXT)] | None = None


class AttendanceEventOut(msgspec.Struct):
    """The event as recorded; ``dayState`` is the child's state after it, ``duplicate`` tells a repeat."""

    id: str
    eventId: str
    studentId: str
    classId: str
    type: EventType
    date: str
    occurredAt: int
    receivedAt: int
    recordedBy: str
    dayState: DayState
    method: str | None = None
    temperature: float | None = None
    by: By | None = None
    note: str | None = None
    duplicate: bool = False


class BatchIn(msgspec.Struct, forbid_unknown_fields=True):
    """Items are validated one by one, so that a wrong one fails alone."""

    items: Annotated[list[Any], Meta(min_length=1, max_length=500)]


class ItemError(msgspec.Struct):
    field: str
    message: str


class ItemFailure(msgspec.Struct):
    type: str
    code: str
    message: str
    details: list[ItemError]


class BatchItem(msgspec.Struct, omit_defaults=True):
    """``code`` is the status that the item alone would have got: 201, 200 for a repeat, or an error."""

    index: int
    code: int
    event: AttendanceEventOut | None = None
    error: ItemFailure | None = None


class BatchOut(msgspec.Struct):
    items: list[BatchItem]
    recorded: int
    duplicates: int
    failed: int


class Counts(msgspec.Struct):
    """``expected`` is every active child; the others add up to it. ``late`` children are not
    counted as ``present`` again, and ``unchecked`` is not ``absent``."""

    expected: int = 0
    present: int = 0
    late: int = 0
    absent: int = 0
    leave: int = 0
    left: int = 0
    unchecked: int = 0


class BoardStudent(msgspec.Struct):
    studentId: str
    name: str
    classId: str
    state: DayState
    firstInAt: int | None = None
    lastOutAt: int | None = None
    temperature: float | None = None
    version: int = 0
    """Of the child's day; live messages with a smaller one are older than this board."""


class Board(msgspec.Struct):
    """A snapshot; follow it over ``/ws`` with ``resume: cursor`` and nothing is missed."""

    date: str
    classId: str | None
    counts: Counts
    students: list[BoardStudent]
    cursor: str
