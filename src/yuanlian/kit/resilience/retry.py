"""Retrying, where that is safe and helps. A thin policy over stamina. DESIGN §5.

Safe: only idempotent requests. Helps: full jitter (M. Brooker, "Exponential Backoff And Jitter"),
within the caller's deadline, and never more than a fraction of the traffic (Finagle's retry budget),
so that retries do not finish off what is already overloaded.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import stamina

from yuanlian.kit.errors import AppError
from yuanlian.kit.resilience.deadline import Deadline

T = TypeVar("T")

IDEMPOTENT_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})


def is_idempotent(method: str, idempotency_key: str | None = None) -> bool:
    """Whether asking twice is the same as asking once (RFC 9110 §9.2.2), or was made so by a key."""
    return method in IDEMPOTENT_METHODS or bool(idempotency_key)


class RetryBudget:
    """A bucket: each first attempt puts in ``ratio`` of a retry, each retry takes one out.
    ``reserve``: retries at hand when traffic is low, and the most the bucket holds."""

    def __init__(self, ratio: float = 0.1, reserve: float = 10.0) -> None:
        self._ratio = ratio
        self._reserve = reserve
        self._tokens = reserve

    def deposit(self) -> None:
        self._tokens = min(self._reserve, self._tokens + self._ratio)

    def withdraw(self) -> bool:
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """``retries``: attempts after the first. Before the n-th retry a random wait between zero and
    ``first_wait_s`` doubled n-1 times, at most ``longest_wait_s``. ``random``: [0, 1)."""

    retries: int = 2
    first_wait_s: float = 0.05
    longest_wait_s: float = 2.0
    random: Callable[[], float] = random.random

    def wait_s(self, retry: int) -> float:
        """How long to wait before a retry; ``retry`` counts from 0."""
        return min(self.longest_wait_s, self.first_wait_s * 2.0**retry) * self.random()

    async def run(
        self, work: Callable[[], Awaitable[T]], budget: RetryBudget, deadline: Deadline | None = None
    ) -> T:
        """Calls ``work``, which must be idempotent, until it succeeds, fails for good (an error that
        is not ``retryable``), or attempts, budget or deadline are used up; then raises its error."""
        budget.deposit()
        if self.retries == 0 or (deadline is not None and deadline.passed):
            return await work()
        waits = _Waits(self, budget, deadline)
        async for attempt in stamina.retry_context(on=waits, attempts=self.retries + 1, timeout=None):
            with attempt:
                return await work()
        raise AssertionError("stamina re-raises the last error")


class _Waits:
    """stamina's backoff hook: False ends the retrying, a number is the next wait in seconds."""

    def __init__(self, policy: RetryPolicy, budget: RetryBudget, deadline: Deadline | None) -> None:
        self._policy = policy
        self._budget = budget
        self._deadline = deadline
        self._retries = 0

    def __call__(self, error: Exception) -> bool | float:
        policy = self._policy
        retryable = isinstance(error, AppError) and error.retryable
        if not retryable or self._retries >= policy.retries:
            return False
        wait = policy.wait_s(self._retries)
        # stamina cuts its own waits at its time-out, but not those of a hook.
        if self._deadline is not None and wait >= self._deadline.remaining:
            return False
        self._retries += 1
        return wait if self._budget.withdraw() else False
