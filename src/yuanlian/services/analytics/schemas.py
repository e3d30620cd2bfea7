"""What the analytics API takes and gives (CONTRACT §11). Dates are ISO, days of the tenant."""

from __future__ import annotations

from datetime import date
from typing import Annotated

import msgspec


class Counts(msgspec.Struct):
    """Children by where their day has got to, which adds up to ``total``: those with a record, so nobody
    ``unchecked`` is in it. Present, late and left are apart: a child who went home is ``left``.

    ``attended``: came at all; ``lateArrivals``: came late. Both count who has left since."""

    present: int
    late: int
    absent: int
    leave: int
    left: int
    total: int
    attended: int
    lateArrivals: int


class ClassDay(msgspec.Struct):
    """The numbers are those of ``Counts``."""

    date: date
    classId: str
    className: str
    present: int
    late: int
    absent: int
    leave: int
    left: int
    total: int
    attended: int
    lateArrivals: int


class Day(msgspec.Struct):
    """``attendanceRate``: attended / total, 0-1; null without records."""

    date: date
    counts: Counts
    attendanceRate: float | None


class ClassRate(msgspec.Struct):
    classId: str
    className: str
    counts: Counts
    attendanceRate: float | None


class Summary(msgspec.Struct):
    """``classes``: those with the best attendance, the best first, at most ten."""

    totals: Counts
    attendanceRate: float | None
    days: list[Day]
    classes: list[ClassRate]


class RebuildRange(msgspec.Struct, forbid_unknown_fields=True, rename={"start": "from", "end": "to"}):
    start: Annotated[date, msgspec.Meta(description="first day")]
    end: Annotated[date, msgspec.Meta(description="last day, included")]


class Rebuilt(msgspec.Struct):
    """``read``: days of children in the history. ``changed``: rows that were not as it says."""

    read: int
    changed: int
