"""A child's day, folded from its events. Pure: no I/O.

It comes out the same in whatever order the events arrive (DESIGN §6 invariant 5).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import time
from zoneinfo import ZoneInfo

from yuanlian.contracts.attendance import DayState, EventType
from yuanlian.kit.clock import local_datetime


@dataclass(frozen=True, slots=True)
class Calendar:
    """When a kindergarten's day is: its time zone, and after which local time an arrival is late."""

    zone: ZoneInfo
    late_after: time


@dataclass(slots=True)
class Day:
    """``state`` was set by the event that *occurred* last, at ``state_at``; ``temperature`` was taken
    at ``temperature_at``."""

    state: DayState
    state_at: int
    first_in_at: int | None = None
    last_out_at: int | None = None
    temperature: float | None = None
    temperature_at: int | None = None
    version: int = 0

    @property
    def attended(self) -> bool:
        """Whether the child came at all, wherever it is now; a later word that it is absent or on leave
        takes a mistaken check-in back."""
        return self.first_in_at is not None and self.state not in ("absent", "leave")

    def arrived_late(self, calendar: Calendar) -> bool:
        return self.attended and self.first_in_at is not None and _is_late(self.first_in_at, calendar)


def unchecked() -> Day:
    return Day("unchecked", -1)


_MEANS: dict[EventType, DayState] = {
    "check_in": "present",
    "check_out": "left",
    "absent": "absent",
    "leave": "leave",
}
_RANK: dict[DayState, int] = {"unchecked": 0, "leave": 1, "absent": 2, "present": 3, "late": 3, "left": 4}
"""Which of two events of one instant counts: a child seen at the gate was there, and has left last."""


def fold(day: Day, type_: EventType, occurred_at: int, temperature: float | None, calendar: Calendar) -> Day:
    """The day after one more event, whether it is the newest or arrived late."""
    means = _MEANS[type_]
    newest = (occurred_at, _RANK[means]) >= (day.state_at, _RANK[day.state])
    first_in, last_out = day.first_in_at, day.last_out_at
    if type_ == "check_in":
        first_in = occurred_at if first_in is None else min(first_in, occurred_at)
    elif type_ == "check_out":
        last_out = occurred_at if last_out is None else max(last_out, occurred_at)
    state = means if newest else day.state
    if state in ("present", "late") and first_in is not None:
        state = "late" if _is_late(first_in, calendar) else "present"
    warmer, measured_at = _newer_temperature(day, temperature, occurred_at)
    return Day(
        state=state,
        state_at=occurred_at if newest else day.state_at,
        first_in_at=first_in,
        last_out_at=last_out,
        temperature=warmer,
        temperature_at=measured_at,
        version=day.version + 1,
    )


def _newer_temperature(
    day: Day, temperature: float | None, occurred_at: int
) -> tuple[float | None, int | None]:
    """The last one taken; of two taken at one instant the higher, which is the one to look at."""
    if temperature is None:
        return day.temperature, day.temperature_at
    known = (-1 if day.temperature_at is None else day.temperature_at, day.temperature or 0.0)
    taken, value = max((occurred_at, temperature), known)
    return value, taken


def _is_late(first_in_at: int, calendar: Calendar) -> bool:
    return local_datetime(first_in_at, calendar.zone).time() > calendar.late_after
