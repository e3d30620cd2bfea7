"""Time as a value that can be passed in. Wire times are epoch milliseconds (CONTRACT, preamble)."""

from __future__ import annotations

import time
from datetime import UTC, date, datetime
from typing import Protocol
from zoneinfo import ZoneInfo


class Clock(Protocol):
    def now_ms(self) -> int:
        """Wall clock, milliseconds since the epoch."""
        ...


class SystemClock:
    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000


class ManualClock:
    """A clock that tests move by hand."""

    def __init__(self, now_ms: int) -> None:
        self._now = now_ms

    def now_ms(self) -> int:
        return self._now

    def advance(self, ms: int) -> None:
        self._now += ms


def local_datetime(epoch_ms: int, zone: ZoneInfo) -> datetime:
    return datetime.fromtimestamp(epoch_ms / 1000, UTC).astimezone(zone)


def local_date(epoch_ms: int, zone: ZoneInfo) -> date:
    """The calendar day of an instant where the kindergarten is."""
    return local_datetime(epoch_ms, zone).date()
