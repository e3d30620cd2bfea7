"""A child's day, folded from its events. Pure: no I/O.

State and times come out the same in whatever order the events arrive (DESIGN §6 invariant 5).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import time
from typing import cast
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
    """``state`` was set by the event that *occurred* last, at ``state_at``."""

    state: DayState
    state_at: int
    first_in_at: int | None = None
    last_out_at: int | None = None
    temperature: float | None = None
    version: int = 0


def unchecked() -> Day:
    return Day("unchecked", -1)


def fold(day: Day, type_: EventType, occurred_at: int, temperature: float | None, calendar: Calendar) -> Day:
    """The day after one more event, whether it is the newest or arrived late."""
    newest = occurred_at >= day.state_at
    first_in, last_out = day.first_in_at, day.last_out_at
    if type_ == "check_in":
        first_in = occurred_at if first_in is None else min(first_in, occurred_at)
    elif type_ == "check_out":
        last_out = occurred_at if last_out is None else max(last_out, occurred_at)
    state = _state_of(type_) if newest else day.state
    if state in ("present", "late") and first_in is not None:
        state = "late" if _is_late(first_in, calendar) else "present"
    return Day(
        state=state,
        state_at=occurred_at if newest else day.state_at,
        first_in_at=first_in,
        last_out_at=last_out,
        temperature=temperature if newest and temperature is not None else day.temperature,
        version=day.version + 1,
    )


def _state_of(type_: EventType) -> DayState:
    return cast(
        DayState,
        {"check_in": "present", "check_out": "left", "absent": "absent", "leave": "leave"}[type_],
    )


def _is_late(first_in_at: int, calendar: Calendar) -> bool:
    return local_datetime(first_in_at, calendar.zone).time() > calendar.late_after
