"""One budget of time for a piece of work and everything it waits for.

A time-out per call lets a chain of calls take their sum; a deadline is handed down instead (gRPC's
rule: "deadlines, not time-outs").
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic


@dataclass(frozen=True, slots=True)
class Deadline:
    """``at``: when it ends, on ``clock`` (seconds; monotonic unless a test says otherwise)."""

    at: float
    clock: Callable[[], float] = field(default=monotonic, repr=False)

    @classmethod
    def after(cls, seconds: float, clock: Callable[[], float] = monotonic) -> Deadline:
        return cls(clock() + seconds, clock)

    @property
    def remaining(self) -> float:
        """Seconds left, never negative."""
        return max(0.0, self.at - self.clock())

    @property
    def passed(self) -> bool:
        return self.remaining == 0.0

    def within(self, seconds: float) -> Deadline:
        """A deadline for a part of the work: ``seconds`` from now, but no later than this one."""
        return Deadline(min(self.at, self.clock() + seconds), self.clock)

    def limit(self) -> asyncio.Timeout:
        """``async with deadline.limit():`` cancels the block at the deadline and raises ``TimeoutError``."""
        return asyncio.timeout(self.remaining)
