"""What became of a queue's deliveries in this process, for whoever looks from outside."""

from __future__ import annotations

import time
from collections.abc import Callable


class Tally:
    """``done``, ``retried``, ``dead``: deliveries since the start. One that was settled and is handed out
    again all the same, after a crash say, counts again."""

    __slots__ = ("_now", "_stalled_at", "dead", "done", "retried")

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self.done = self.retried = self.dead = 0
        self._now = now
        self._stalled_at: float | None = None

    def stall(self) -> None:
        """The queue stands still; it is tried again later, and again."""
        if self._stalled_at is None:
            self._stalled_at = self._now()

    def move(self) -> None:
        self._stalled_at = None

    @property
    def stalled_s(self) -> float:
        """For how long it has stood still by now; 0 while it moves."""
        return 0.0 if self._stalled_at is None else self._now() - self._stalled_at
