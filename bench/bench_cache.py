"""What the cache costs: a hit in memory, a miss through Redis, how soon a drop is heard elsewhere, and that
dropping all of a tenant's values costs the same for ten and for a hundred thousand.

    python -m bench.bench_cache          (a private Redis is started; Debian: redis-server)
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

from bench.machine import describe
from deploy.servers.redis import Redis as RedisServer
from yuanlian.kit.caching.cache import Cache, Space
from yuanlian.kit.caching.redis import RedisStore
from yuanlian.kit.channels import Channels
from yuanlian.kit.redis import Redis
from yuanlian.kit.tenancy.scope import tenant_scope

HITS = 200_000
DROPS = 500
SIZES = (10, 100_000)

console = Console(width=110, highlight=False)


class Card(msgspec.Struct):
    name: str


async def load() -> Card:
    return Card("甲")


@asynccontextmanager
async def sharing(url: str, size: int = 200_000) -> AsyncIterator[Cache]:
    redis = Redis(url)
    channels = Channels(redis)
    cache = Cache(RedisStore(redis, channels), size=size)
    heard = asyncio.Event()
    channels.listen("bench.ready", lambda _: None, on_open=heard.set)
    await channels.start()
    await heard.wait()
    try:
        yield cache
    finally:
        await channels.stop()
        await redis.close()


async def hit_us(space: Space[Card]) -> float:
    """Median of ten runs, the loop's own cost taken off."""
    await space.get("1", load)
    runs = []
    for _ in range(10):
        began = time.perf_counter()
        for _ in range(HITS // 10):
            await space.get("1", load)
        runs.append((time.perf_counter() - began) / (HITS // 10) * 1e6)
    return statistics.median(runs)


async def miss_us(space: Space[Card], count: int = 1000) -> float:
    began = time.perf_counter()
    for number in range(count):
        await space.get(f"miss-{number}", load)
    return (time.perf_counter() - began) / count * 1e6


async def heard_ms(space: Space[Card], other: Cache, theirs: Space[Card]) -> list[float]:
    """From the call of ``drop`` until the other side has forgotten."""
    taken = []
    for number in range(DROPS):
        id_ = f"drop-{number}"
        await space.get(id_, load)
        await theirs.get(id_, load)
        before = len(other)
        began = time.perf_counter()
        await space.drop(id_)
        while len(other) >= before:
            await asyncio.sleep(0)
        taken.append((time.perf_counter() - began) * 1000)
    return sorted(taken)


async def drop_all_us(cache: Cache, size: int) -> float:
    """Median of twenty, with so many values of the tenant in both levels at the first."""
    space = cache.space("bench", f"sized-{size}", Card, ttl_s=600)
    for begin in range(0, size, 500):
        await asyncio.gather(*(space.get(str(n), load) for n in range(begin, min(begin + 500, size))))
    assert len(cache) >= size
    runs = []
    for _ in range(20):
        await space.get("1", load)  # what was learnt of the generation is dropped, too
        began = time.perf_counter()
        await space.drop_all()
        runs.append((time.perf_counter() - began) * 1e6)
    assert not cache._owed, "Redis was away: nothing was dropped there"
    return statistics.median(runs)


async def measure(url: str) -> None:
    shown = Table("", "measured", "goal")
    async with sharing(url) as one, sharing(url) as two:
        with tenant_scope("tenant_a"):
            space = one.space("bench", "card", Card, ttl_s=600)
            shown.add_row("hit in memory", f"{await hit_us(space):.2f} us", "≤ 1 us")
            shown.add_row("miss, loaded and stored in Redis", f"{await miss_us(space):.0f} us", "")
            theirs = two.space("bench", "card", Card, ttl_s=600)
            heard = await heard_ms(space, two, theirs)
            p99 = heard[int(len(heard) * 0.99)]
            shown.add_row("a drop reaches another process, p50", f"{statistics.median(heard):.2f} ms", "")
            shown.add_row("a drop reaches another process, p99", f"{p99:.2f} ms", "≤ 50 ms")
            for size in SIZES:
                cost = await drop_all_us(one, size)
                shown.add_row(f"dropping a tenant's {size:,} values", f"{cost:.0f} us", "the same")
    console.print(shown)
    console.print("[dim]" + ", ".join(f"{k} {v}" for k, v in describe(("redis", "cachebox")).items()) + "[/]")


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="yuanlian-bench-") as scratch:
        server = RedisServer(Path(scratch))
        server.start()
        try:
            asyncio.run(measure(server.url))
        finally:
            server.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
