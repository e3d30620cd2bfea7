"""Rate limits that several processes count together."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from yuanlian.kit.clock import ManualClock
from yuanlian.kit.resilience.memory import MemoryRateLimiter
from yuanlian.kit.resilience.shared_memory import KEY_BYTES, SharedMemoryRateLimiter, shared_memory

KEY = b"k" * KEY_BYTES

HITS = """
import asyncio, sys
from yuanlian.kit.clock import SystemClock
from yuanlian.kit.resilience.shared_memory import SharedMemoryRateLimiter

async def hit():
    limiter = SharedMemoryRateLimiter(SystemClock(), int(sys.argv[1]), b"k" * 16)
    print(sum([(await limiter.hit("address", 10, 3_600_000)).allowed for _ in range(8)]))

asyncio.run(hit())
"""


@pytest.fixture
def descriptor() -> Iterator[int]:
    opened = shared_memory()
    yield opened
    os.close(opened)


@given(
    st.lists(
        st.tuples(st.integers(0, 1), st.sampled_from("abcd"), st.integers(0, 3_000)), min_size=1, max_size=80
    ),
    st.integers(1, 5),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
def test_two_decide_together_as_one_alone_would(steps: list[tuple[int, str, int]], limit: int) -> None:
    opened, clock = shared_memory(), ManualClock(1_000_000)
    alone = MemoryRateLimiter(clock)
    two = [SharedMemoryRateLimiter(clock, opened, KEY) for _ in range(2)]
    os.close(opened)

    async def scenario() -> None:
        for which, key, later in steps:
            clock.advance(later)
            assert await two[which].hit(key, limit, 5_000) == await alone.hit(key, limit, 5_000)

    try:
        asyncio.run(scenario())
    finally:
        for limiter in two:
            limiter.close()


def test_processes_count_together(descriptor: int) -> None:
    allowed = [
        int(
            subprocess.run(
                [sys.executable, "-c", HITS, str(descriptor)],
                pass_fds=(descriptor,),
                capture_output=True,
                text=True,
                check=True,
            ).stdout
        )
        for _ in range(2)
    ]
    assert allowed == [8, 2]


def test_many_keys_take_no_more_room_and_the_busy_one_is_remembered(descriptor: int) -> None:
    clock = ManualClock(1_000_000)
    limiter = SharedMemoryRateLimiter(clock, descriptor, KEY)

    async def scenario() -> None:
        for _ in range(3):
            assert (await limiter.hit("busy", 3, 3_600_000)).allowed
        for number in range(20_000):
            assert (await limiter.hit(f"stranger {number}", 1_000, 60_000)).allowed
        assert not (await limiter.hit("busy", 3, 3_600_000)).allowed

    asyncio.run(scenario())
    limiter.close()
