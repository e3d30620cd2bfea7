"""What every ``RateLimiter`` promises, in memory, in memory that processes share, in Redis, in a cluster
of three masters."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.support import servers

from deploy.servers.redis import Redis as RedisServer
from yuanlian.kit.clock import SystemClock
from yuanlian.kit.redis import Redis
from yuanlian.kit.resilience.limiter import RateLimiter
from yuanlian.kit.resilience.memory import MemoryRateLimiter
from yuanlian.kit.resilience.redis import RedisRateLimiter
from yuanlian.kit.resilience.shared_memory import KEY_BYTES, SharedMemoryRateLimiter, shared_memory

HOUR_MS = 3_600_000
SHARED = "shared"


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[RateLimiter]:
    memory = MemoryRateLimiter(SystemClock())
    if not url:
        yield memory
        return
    if url == SHARED:
        descriptor = shared_memory()
        shared = SharedMemoryRateLimiter(SystemClock(), descriptor, b"k" * KEY_BYTES)
        os.close(descriptor)
        yield shared
        shared.close()
        return
    redis = Redis(url, timeout_s=servers.PATIENCE_S)
    try:
        yield RedisRateLimiter(redis, memory)
    finally:
        await redis.close()


URLS: dict[str, Callable[[], str]] = {
    "memory": lambda: "",
    "shared memory": lambda: SHARED,
    "redis": lambda: servers.redis().url,
    "redis cluster": lambda: servers.redis_cluster().url,
}


@pytest.fixture(params=list(URLS))
def url(request: pytest.FixtureRequest) -> str:
    return URLS[request.param]()


def run(url: str, scenario: Callable[[RateLimiter], Awaitable[None]]) -> None:
    async def main() -> None:
        async with opened(url) as limiter:
            await scenario(limiter)

    asyncio.run(main())


def test_a_burst_of_the_limit_is_allowed_and_no_more(url: str) -> None:
    async def scenario(limiter: RateLimiter) -> None:
        decisions = [await limiter.hit("k", 5, HOUR_MS) for _ in range(7)]
        assert [d.allowed for d in decisions] == [True] * 5 + [False] * 2
        assert [d.remaining for d in decisions] == [4, 3, 2, 1, 0, 0, 0]
        assert all(d.limit == 5 for d in decisions)
        assert decisions[4].reset == 3600
        assert 718 <= decisions[5].retry_after <= 720

    run(url, scenario)


def test_who_asks_at_once_is_counted_one_by_one(url: str) -> None:
    async def scenario(limiter: RateLimiter) -> None:
        decisions = await asyncio.gather(*(limiter.hit("k", 100, HOUR_MS) for _ in range(700)))
        assert sum(d.allowed for d in decisions) == 100

    run(url, scenario)


def test_keys_are_counted_apart(url: str) -> None:
    async def scenario(limiter: RateLimiter) -> None:
        keys = ["a", "b", "a{b}", "c}", "路径 user 甲"]
        decisions = await asyncio.gather(*(limiter.hit(key, 1, HOUR_MS) for key in keys))
        assert all(d.allowed for d in decisions)
        assert not (await limiter.hit("a", 1, HOUR_MS)).allowed

    run(url, scenario)


def test_what_was_used_comes_back_evenly(url: str) -> None:
    async def scenario(limiter: RateLimiter) -> None:
        for _ in range(10):
            await limiter.hit("k", 10, 1000)
        assert not (await limiter.hit("k", 10, 1000)).allowed
        allowed = 0
        for _ in range(100):
            await asyncio.sleep(0.01)
            allowed += (await limiter.hit("k", 10, 1000)).allowed
        assert 8 <= allowed <= 100  # a tenth of a second each, however slowly this loop runs

    run(url, scenario)


def test_two_processes_share_one_limit() -> None:
    async def scenario(limiter: RateLimiter) -> None:
        async with opened(server_url) as other:
            decisions = await asyncio.gather(
                *(one.hit("k", 50, HOUR_MS) for _ in range(50) for one in (limiter, other))
            )
        assert sum(d.allowed for d in decisions) == 50

    server_url = servers.redis().url
    run(server_url, scenario)


def test_a_redis_that_does_not_let_us_count_holds_nobody_up(tmp_path: Path) -> None:
    servers.need(RedisServer)
    server = RedisServer(tmp_path / "redis")
    server.start()
    limited = server.url.replace("redis://:", "redis://limited:")
    password = limited.split("limited:")[1].split("@")[0]

    async def main() -> None:
        owner, redis = Redis(server.url), Redis(limited)
        try:
            await owner.execute(
                "ACL", "SETUSER", "limited", "on", f">{password}", "~*", "&*", "+@all", "-script"
            )
            limiter = RedisRateLimiter(redis, MemoryRateLimiter(SystemClock()))
            async with asyncio.timeout(10):
                decisions = [await limiter.hit("k", 2, HOUR_MS) for _ in range(3)]
            assert [d.allowed for d in decisions] == [True, True, False]
        finally:
            await redis.close()
            await owner.close()

    try:
        asyncio.run(main())
    finally:
        server.stop()


def test_without_redis_each_process_counts_for_itself(tmp_path: Path) -> None:
    servers.need(RedisServer)
    server = RedisServer(tmp_path / "redis")
    server.start()

    async def scenario(limiter: RateLimiter) -> None:
        for _ in range(3):
            await limiter.hit("k", 3, HOUR_MS)
        assert not (await limiter.hit("k", 3, HOUR_MS)).allowed
        server.kill()
        decisions = await asyncio.gather(*(limiter.hit("k", 3, HOUR_MS) for _ in range(10)))
        assert sum(d.allowed for d in decisions) == 3

    try:
        run(server.url, scenario)
    finally:
        server.stop()
