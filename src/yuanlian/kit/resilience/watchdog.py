"""``asyncio.timeout`` for hot paths: one timer for all that is watched, instead of one for each.

A timer per request costs about 10 us on uvloop (a libuv handle opened and closed); almost none of
them ever fires. Here expiry is noticed up to ``tick_s`` late, which no time-out of seconds minds; one
that is shorter than ``PATIENT_TICKS`` ticks, up to so many.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from types import TracebackType

PATIENT_TICKS = 5
"""At most so many pass without a look while nothing is due: a process that waits is seldom woken for it."""


class Watchdog:
    """Belongs to the event loop that first uses it. ``clock``: seconds, as the loop's timers count them."""

    def __init__(self, tick_s: float = 0.05, clock: Callable[[], float] = monotonic) -> None:
        self._tick_s = tick_s
        self._clock = clock
        self._ticking = False
        self._watches: set[Watch] = set()

    def watch(self, seconds: float) -> Watch:
        """``with watchdog.watch(30): …`` cancels the block when time is up and raises
        ``TimeoutError``; a cancellation from elsewhere passes through."""
        watches = self._watches
        if not self._ticking:
            self._ticking = True
            loop = asyncio.get_running_loop()
            loop.call_later(self._tick_s, self._tick, loop)
        return Watch(watches, seconds, self._clock)

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        now = self._clock()
        for watch in [watch for watch in self._watches if watch.until <= now]:
            self._watches.discard(watch)
            watch.expire()
        self._ticking = bool(self._watches)
        if self._ticking:
            due = min(watch.until for watch in self._watches) - now
            pause = min(max(due, self._tick_s), self._tick_s * PATIENT_TICKS)
            loop.call_later(pause, self._tick, loop)


class Watch:
    """One block of one task. ``expired``: its time was up. ``until``: on the watchdog's clock."""

    __slots__ = (
        "_cancelling",
        "_clock",
        "_left",
        "_pauses",
        "_seconds",
        "_task",
        "_watches",
        "expired",
        "until",
    )

    def __init__(self, watches: set[Watch], seconds: float, clock: Callable[[], float]) -> None:
        self._watches = watches
        self._task: asyncio.Task[object] | None = None
        self._cancelling = 0
        self._pauses = 0
        self._left = 0.0
        self._seconds = seconds
        self._clock = clock
        self.expired = False
        self.until = clock() + seconds

    def __enter__(self) -> Watch:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("only a task can be watched")
        self._task = task
        self._cancelling = task.cancelling()
        self._watches.add(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._watches.discard(self)
        if not self.expired or self._task is None:
            return
        ours = self._task.uncancel() <= self._cancelling
        if ours and kind is not None and issubclass(kind, asyncio.CancelledError):
            raise TimeoutError from error

    @contextmanager
    def paused(self) -> Iterator[None]:
        """``with watch.paused(): …`` does not count. Several may overlap."""
        if not self._pauses:
            self._left, self.until = self.until - self._clock(), math.inf
        self._pauses += 1
        try:
            yield
        finally:
            self._pauses -= 1
            if not self._pauses:
                self.until = self._clock() + self._left

    def restart(self) -> None:
        """The time begins anew."""
        if self._pauses:
            self._left = self._seconds
        else:
            self.until = self._clock() + self._seconds

    def expire(self) -> None:
        self.expired = True
        if self._task is not None:
            self._task.cancel()
