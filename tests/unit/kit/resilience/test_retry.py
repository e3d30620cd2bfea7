"""Retrying only where it is safe, helps, and is paid for."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yuanlian.kit.errors import AppError, BadGatewayError, NotFoundError, ServiceUnavailableError
from yuanlian.kit.resilience.deadline import Deadline
from yuanlian.kit.resilience.retry import RetryBudget, RetryPolicy, is_idempotent

QUICK = RetryPolicy(retries=3, first_wait_s=0.001, longest_wait_s=0.002)


class _Flaky:
    """Fails with ``error`` the first ``failures`` times."""

    def __init__(self, failures: int, error: type[AppError] = ServiceUnavailableError) -> None:
        self.calls = 0
        self._failures = failures
        self._error = error

    async def __call__(self) -> str:
        self.calls += 1
        if self.calls <= self._failures:
            raise self._error
        return "fine"


def test_a_passing_failure_is_retried() -> None:
    work = _Flaky(2, BadGatewayError)
    assert asyncio.run(QUICK.run(work, RetryBudget())) == "fine"
    assert work.calls == 3


def test_the_last_error_is_raised_when_attempts_run_out() -> None:
    work = _Flaky(99)
    with pytest.raises(ServiceUnavailableError):
        asyncio.run(QUICK.run(work, RetryBudget()))
    assert work.calls == 4


def test_what_will_not_get_better_is_not_retried() -> None:
    work = _Flaky(99, NotFoundError)
    with pytest.raises(NotFoundError):
        asyncio.run(QUICK.run(work, RetryBudget()))
    assert work.calls == 1


@given(st.integers(0, 60))
def test_retries_stay_within_a_tenth_of_the_traffic_and_a_reserve(requests: int) -> None:
    budget = RetryBudget(ratio=0.1, reserve=2)
    policy = RetryPolicy(retries=3, first_wait_s=0)
    work = _Flaky(10_000)

    async def scenario() -> None:
        for _ in range(requests):
            with pytest.raises(ServiceUnavailableError):
                await policy.run(work, budget)

    asyncio.run(scenario())
    assert work.calls - requests <= 2 + requests * 0.1


def test_a_deadline_ends_the_retrying() -> None:
    work = _Flaky(99)
    patient = RetryPolicy(retries=5, first_wait_s=60, longest_wait_s=60, random=lambda: 0.99)
    with pytest.raises(ServiceUnavailableError):
        asyncio.run(patient.run(work, RetryBudget(), Deadline.after(0.01)))
    assert work.calls == 1


@pytest.mark.parametrize(
    ("method", "key", "safe"),
    [
        ("GET", None, True),
        ("PUT", None, True),
        ("DELETE", None, True),
        ("POST", None, False),
        ("PATCH", None, False),
        ("POST", "abc", True),
        ("POST", "", False),
    ],
)
def test_only_what_may_be_asked_twice_is_idempotent(method: str, key: str | None, safe: bool) -> None:
    assert is_idempotent(method, key) is safe


def test_a_part_never_outlives_the_whole() -> None:
    now = [100.0]
    whole = Deadline.after(10, lambda: now[0])
    assert whole.within(3).remaining == 3
    assert whole.within(30).remaining == 10
    now[0] = 108
    assert whole.within(3).remaining == 2
    now[0] = 200
    assert whole.passed
    assert whole.remaining == 0


def test_a_deadline_cuts_what_takes_longer() -> None:
    async def scenario() -> None:
        async with Deadline.after(0.01).limit():
            await asyncio.sleep(60)

    with pytest.raises(TimeoutError):
        asyncio.run(scenario())
