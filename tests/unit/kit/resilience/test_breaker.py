"""The circuit breaker, whatever the order of calls, failures and time."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yuanlian.kit.errors import ServiceUnavailableError, ValidationError
from yuanlian.kit.resilience.breaker import CircuitBreaker, State


class _Time:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def _state(breaker: CircuitBreaker) -> State:
    """Asked anew: a type checker takes a property for a constant."""
    return breaker.state


async def _works() -> str:
    return "fine"


async def _fails() -> str:
    raise OSError


async def _refuses() -> str:
    raise ValidationError


def test_it_opens_after_failures_in_a_row_and_asks_again_after_a_pause() -> None:
    async def scenario() -> None:
        time = _Time()
        breaker = CircuitBreaker(threshold=2, cooldown_s=5, clock=time)
        for work in (_fails, _works, _fails, _fails):
            if work is _works:
                await breaker.call(work)
            else:
                with pytest.raises(OSError):
                    await breaker.call(work)
        assert _state(breaker) is State.OPEN
        with pytest.raises(ServiceUnavailableError):
            await breaker.call(_works)
        time.now = 5
        with pytest.raises(OSError):
            await breaker.call(_fails)
        assert _state(breaker) is State.OPEN
        time.now = 10
        assert _state(breaker) is State.HALF_OPEN
        assert await breaker.call(_works) == "fine"
        assert _state(breaker) is State.CLOSED

    asyncio.run(scenario())


def test_half_open_lets_one_through_at_a_time() -> None:
    async def scenario() -> None:
        time = _Time()
        breaker = CircuitBreaker(threshold=1, cooldown_s=5, clock=time)
        with pytest.raises(OSError):
            await breaker.call(_fails)
        time.now = 5
        answered = asyncio.Event()

        async def slow() -> str:
            await answered.wait()
            return "fine"

        probe = asyncio.create_task(breaker.call(slow))
        await asyncio.sleep(0)
        with pytest.raises(ServiceUnavailableError):
            await breaker.call(_works)
        answered.set()
        assert await probe == "fine"
        assert await breaker.call(_works) == "fine"

    asyncio.run(scenario())


def test_a_cancelled_probe_lets_the_next_one_try() -> None:
    async def scenario() -> None:
        time = _Time()
        breaker = CircuitBreaker(threshold=1, cooldown_s=5, clock=time)
        with pytest.raises(OSError):
            await breaker.call(_fails)
        time.now = 5
        probe = asyncio.create_task(breaker.call(lambda: asyncio.sleep(60)))
        await asyncio.sleep(0)
        probe.cancel()
        await asyncio.gather(probe, return_exceptions=True)
        assert await breaker.call(_works) == "fine"

    asyncio.run(scenario())


def test_a_refused_request_does_not_speak_against_the_other_side() -> None:
    async def scenario() -> None:
        breaker = CircuitBreaker(threshold=1, is_failure=lambda error: not isinstance(error, ValidationError))
        for _ in range(3):
            with pytest.raises(ValidationError):
                await breaker.call(_refuses)
        assert _state(breaker) is State.CLOSED

    asyncio.run(scenario())


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 3)), max_size=60), st.integers(1, 4))
def test_it_behaves_like_its_description(steps: list[tuple[bool, float]], threshold: int) -> None:
    """Against a model: failures in a row since the last success, and when it opened."""

    async def scenario() -> None:
        time = _Time()
        breaker = CircuitBreaker(threshold=threshold, cooldown_s=5, clock=time)
        in_a_row, opened = 0, None
        for works, pause in steps:
            time.now += pause
            expect_call = opened is None or time.now - opened >= 5
            try:
                await breaker.call(_works if works else _fails)
                called = True
            except OSError:
                called = True
            except ServiceUnavailableError:
                called = False
            assert called is expect_call
            if not called:
                continue
            in_a_row = 0 if works else in_a_row + 1
            if works:
                opened = None
            elif opened is not None or in_a_row >= threshold:
                opened = time.now

    asyncio.run(scenario())
