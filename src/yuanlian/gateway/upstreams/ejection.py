"""Passive ejection: an instance that keeps failing gets no requests for a while.

Source: Envoy, "Outlier detection" (consecutive errors); here the time doubles with each repetition.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EjectionPolicy:
    """``failures`` in a row eject for ``first_s``, the next time twice as long, at most ``longest_s``.
    Each ``first_s`` without failures after the return forgives one time. At most ``share`` of the
    instances are out at once: when more fail, the fault is rarely theirs."""

    failures: int = 5
    first_s: float = 5.0
    longest_s: float = 120.0
    share: float = 0.5


class Record:
    """What is held against one instance. ``until``: when it may come back, on the caller's clock."""

    __slots__ = ("ejected", "failures", "times", "until")

    def __init__(self) -> None:
        self.failures = 0
        self.times = 0
        self.ejected = False
        self.until = 0.0


class Ejector:
    """Decides for one set of instances; ``records`` are those of all of them."""

    def __init__(self, policy: EjectionPolicy) -> None:
        self._policy = policy

    def failed(self, record: Record, records: Collection[Record], now: float) -> bool:
        """Whether this failure ejects."""
        policy = self._policy
        record.failures += 1
        if record.ejected or record.failures < policy.failures:
            return False
        out = sum(other.ejected for other in records)
        if out + 1 > policy.share * len(records):
            return False
        forgiven = int((now - record.until) / policy.first_s) if record.times else 0
        record.times = max(0, record.times - forgiven) + 1
        record.ejected = True
        record.until = now + min(policy.longest_s, policy.first_s * 2.0 ** min(record.times - 1, 32))
        return True

    def release(self, records: Collection[Record], now: float) -> bool:
        """Lets back in whose time is over; whether there was one. It returns on probation: without a
        success in between, its next failure ejects again."""
        back = [record for record in records if record.ejected and record.until <= now]
        for record in back:
            record.ejected = False
            record.failures = self._policy.failures - 1
        return bool(back)
