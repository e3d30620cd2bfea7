"""GCRA in memory: never more than was promised, whatever the arrivals."""

from __future__ import annotations

import asyncio
from fractions import Fraction
from math import floor

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


def _decide(limiter: MemoryRateLimiter, key: str, limit: int, window_ms: int) -> Decision:
    """It never waits: an event loop for each hit would only cost time."""
    try:
        limiter.hit(key, limit, window_ms).send(None)
    except StopIteration as done:
        decision: Decision = done.value
        return decision
    raise AssertionError("it waited")


class _Bucket:
    """The plain model: ``limit`` tokens at most, as many flow in per window; exact arithmetic."""

    def __init__(self, now: int) -> None:
        self._missing = Fraction(0)  # in ms of flowing in
        self._at = now

    def hit(self, now: int, limit: int, window_ms: int) -> tuple[Fraction, Fraction]:
        """Tokens there are, and what is missing to a full bucket in ms, before taking any."""
        self._missing = max(self._missing - (now - self._at), Fraction(0))
        self._at = now
        return (window_ms - self._missing) * limit / window_ms, self._missing

    def take(self, limit: int, window_ms: int) -> None:
        self._missing += Fraction(window_ms, limit)


HITS = st.lists(
    st.tuples(
        st.integers(0, 2000),
        st.sampled_from("abc"),
        st.integers(1, 1200),
        st.sampled_from([10, 1000, 60_000]),
    ),
    min_size=1,
    max_size=120,
)


@given(HITS, st.booleans())
def test_it_decides_as_a_bucket_would_for_each_key_also_when_a_limit_changes(
    hits: list[tuple[int, str, int, int]], steady: bool
) -> None:
    """``steady``: the key keeps its limit, as long as its table of routes is in use."""
    clock = ManualClock(1_790_000_000_000)
    limiter, buckets, limits = MemoryRateLimiter(clock), dict[str, _Bucket](), dict[str, tuple[int, int]]()
    for gap, key, limit, window_ms in hits:
        clock.advance(gap)
        now = clock.now_ms()
        if steady:
            limit, window_ms = limits.setdefault(key, (limit, window_ms))
        bucket = buckets.setdefault(key, _Bucket(now))
        tokens, missing = bucket.hit(now, limit, window_ms)
        decision = _decide(limiter, key, limit, window_ms)
        if abs(tokens - 1) > Fraction(1, 1000):  # closer than that, a double may round either way
            assert decision.allowed == (tokens >= 1)
        if decision.allowed:
            bucket.take(limit, window_ms)
            tokens, missing = bucket.hit(now, limit, window_ms)
        assert decision.limit == limit
        assert abs(decision.remaining - max(floor(tokens), 0)) <= (tokens % 1 > 0.999 or tokens % 1 < 0.001)
        assert 0 <= decision.reset - missing / 1000 <= 1 + Fraction(1, 1000)
        if not decision.allowed:
            wait = (1 - tokens) * window_ms / limit / 1000
            assert 0 <= decision.retry_after - wait + Fraction(1, 1000) <= 1 + Fraction(1, 500)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 30)), max_size=200))
def test_a_key_in_use_is_never_forgotten_for_others(hits: list[tuple[bool, int]]) -> None:
    """Also when it is only refused: else whoever is over the limit gets a new burst by asking with many
    other keys in between."""

    async def scenario() -> None:
        limiter = MemoryRateLimiter(ManualClock(1_000_000), keys_per_generation=8)
        assert (await limiter.hit("busy", 1, 1000)).allowed
        others: set[int] = set()
        for busy, other in hits:
            if busy or (len(others) == 7 and other not in others):
                assert not (await limiter.hit("busy", 1, 1000)).allowed
                others.clear()
            else:
                await limiter.hit(f"other {other}", 1000, 1000)
                others.add(other)
            assert len(limiter) <= 16

    asyncio.run(scenario())
