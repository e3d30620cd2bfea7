"""GCRA in memory: never more than was promised, whatever the arrivals."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from yuanlian.kit.clock import ManualClock
from yuanlian.kit.resilience.limiter import Decision
from yuanlian.kit.resilience.memory import MemoryRateLimiter


def _hits(gaps: list[int], limit: int, window_ms: int) -> list[tuple[int, Decision]]:
    async def scenario() -> list[tuple[int, Decision]]:
        clock = ManualClock(1_000_000)
        limiter = MemoryRateLimiter(clock)
        decisions = []
        for gap in gaps:
            clock.advance(gap)
            decisions.append((clock.now_ms(), await limiter.hit("k", limit, window_ms)))
        return decisions

    return asyncio.run(scenario())


def test_a_burst_up_to_the_limit_is_allowed_and_then_one_per_interval() -> None:
    decisions = [decision for _, decision in _hits([0, 0, 0, 0, 1000, 0], limit=3, window_ms=3000)]
    assert [d.allowed for d in decisions] == [True, True, True, False, True, False]
    assert [d.remaining for d in decisions] == [2, 1, 0, 0, 0, 0]
    assert decisions[3].retry_after == 1
    assert decisions[3].reset == 3


@given(
    gaps=st.lists(st.integers(0, 500), min_size=1, max_size=80),
    limit=st.integers(1, 10),
    window_ms=st.integers(10, 2000),
)
def test_within_any_window_at_most_twice_the_limit_and_on_average_the_limit(
    gaps: list[int], limit: int, window_ms: int
) -> None:
    allowed = [at for at, decision in _hits(gaps, limit, window_ms) if decision.allowed]
    for i, start in enumerate(allowed):
        for j in range(i, len(allowed)):
            elapsed = allowed[j] - start
            assert j - i + 1 <= limit + elapsed * limit / window_ms + 1e-6


@given(gaps=st.lists(st.integers(0, 500), min_size=1, max_size=60), limit=st.integers(1, 10))
def test_remaining_is_exactly_what_may_follow_at_once(gaps: list[int], limit: int) -> None:
    _, last = _hits(gaps, limit, 1000)[-1]
    follow = [
        decision.allowed for _, decision in _hits([*gaps, *[0] * (limit + 1)], limit, 1000)[len(gaps) :]
    ]
    assert follow == [True] * last.remaining + [False] * (limit + 1 - last.remaining)


@given(gaps=st.lists(st.integers(0, 300), min_size=1, max_size=60), limit=st.integers(1, 5))
def test_coming_back_after_retry_after_is_allowed(gaps: list[int], limit: int) -> None:
    _, last = _hits(gaps, limit, 1000)[-1]
    if not last.allowed:
        _, again = _hits([*gaps, last.retry_after * 1000], limit, 1000)[-1]
        assert again.allowed


def test_keys_do_not_share_and_memory_is_bounded() -> None:
    async def scenario() -> None:
        limiter = MemoryRateLimiter(ManualClock(1_000_000), keys_per_generation=100)
        for number in range(10_000):
            assert (await limiter.hit(f"key {number}", 1, 1000)).allowed
        assert len(limiter) <= 200
        assert not (await limiter.hit("key 9999", 1, 1000)).allowed
        assert not (await limiter.hit("key 9900", 1, 1000)).allowed

    asyncio.run(scenario())
