"""What the cache costs: a hit in memory, a miss through Redis, how soon a drop is heard elsewhere, and that
dropping all of a tenant's values costs the same for ten and for a hundred thousand.

    python -m bench.bench_cache [--save]          (a private Redis is started; Debian: redis-server)
"""

from __future__ import annotations

import argparse
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

from bench.machine import describe, save
from deploy.servers.redis import Redis as RedisServer
from yuanlian.kit.caching.cache import Cache, Space
from yuanlian.kit.caching.redis import RedisStore
from yuanlian.kit.channels import Channels
from yuanlian.kit.redis import Redis
from yuanlian.kit.tenancy.scope import tenant_scope

HITS = 200_000
DROPS = 500
TENANTS = 3
SETTLE_S = 0.5
"""What follows a hundred thousand loads, in Python's collector and in Redis, is none of the drop's."""
SIZES = (10, 100_000)
RESULTS = Path("bench/results/cache.json")

console = Console(width=110, highlight=False)


class Card(msgspec.Struct):
    name: str


class Figure(msgspec.Struct):
    what: str
    value: float
    unit: str
    goal: str = ""


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


async def heard_ms(space: Space[Card], url: str) -> list[float]:
    """From the call of ``drop`` until another process has forgotten; the monotonic clock is the machine's."""
    other = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.bench_cache", "--forget", url),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert other.stdin is not None
    assert other.stdout is not None
    taken = []
    for number in range(DROPS):
        id_ = f"drop-{number}"
        await space.get(id_, load)
        other.stdin.write(id_.encode() + b"\n")
        await other.stdout.readline()  # it has the value, too
        began = time.monotonic_ns()
        await space.drop(id_)
        taken.append((int(await other.stdout.readline()) - began) / 1e6)
    other.stdin.close()
    await other.wait()
    return sorted(taken)


async def forget(url: str) -> None:
    """The other process: keeps each value it is told of, and says when it has forgotten it."""
    async with sharing(url) as cache:
        space = cache.space("bench", "card", Card, ttl_s=600)
        with tenant_scope("tenant_a"):
            while id_ := (await asyncio.to_thread(sys.stdin.readline)).strip():
                await space.get(id_, load)
                before = len(cache)
                print("kept", flush=True)
                while len(cache) >= before:
                    await asyncio.sleep(0)
                print(time.monotonic_ns(), flush=True)


async def drop_all_us(cache: Cache) -> dict[int, tuple[float, float]]:
    """By the number of values that a tenant has in both levels: the median of a few tenants' first drops,
    which find them all alive, and of many more, which find them dropped and not yet gone. They take turns,
    so that whatever the machine does is done to all."""
    space = cache.space("bench", "sized", Card, ttl_s=600)
    first: dict[int, list[float]] = {size: [] for size in SIZES}
    later: dict[int, list[float]] = {size: [] for size in SIZES}
    for number in range(TENANTS):
        for size in SIZES:
            with tenant_scope(f"tenant_{size}_{number}"):
                for begin in range(0, size, 500):
                    keys = map(str, range(begin, min(begin + 500, size)))
                    await asyncio.gather(*(space.get(key, load) for key in keys))
                assert len(cache) >= size
                await asyncio.sleep(SETTLE_S)
                first[size].append(await _drop_us(space))
    for _ in range(DROPS):
        for size in SIZES:
            with tenant_scope(f"tenant_{size}_0"):
                later[size].append(await _drop_us(space))
    assert not cache._owed, "Redis was away: nothing was dropped there"
    return {size: (statistics.median(first[size]), statistics.median(later[size])) for size in SIZES}


async def _drop_us(space: Space[Card]) -> float:
    await space.get("1", load)  # what was learnt of the generation is dropped, too
    began = time.perf_counter()
    await space.drop_all()
    return (time.perf_counter() - began) * 1e6


async def measure(url: str) -> list[Figure]:
    figures = []
    async with sharing(url) as one:
        with tenant_scope("tenant_a"):
            space = one.space("bench", "card", Card, ttl_s=600)
            figures.append(Figure("hit in memory", await hit_us(space), "us", "≤ 1 us"))
            figures.append(Figure("miss, loaded and stored in Redis", await miss_us(space), "us"))
            heard = await heard_ms(space, url)
            p99 = heard[int(len(heard) * 0.99)]
            figures.append(Figure("a drop reaches another process, p50", statistics.median(heard), "ms"))
            figures.append(Figure("a drop reaches another process, p99", p99, "ms", "≤ 50 ms"))
        for size, (first, later) in (await drop_all_us(one)).items():
            figures.append(Figure(f"dropping a tenant's {size:,} values", first, "us", "the same"))
            figures.append(Figure(f"dropping them again, of {size:,}", later, "us", "the same"))
    return figures


def show(figures: list[Figure], machine: dict[str, str]) -> None:
    shown = Table("", "measured", "goal")
    for figure in figures:
        shown.add_row(figure.what, f"{figure.value:.2f} {figure.unit}", figure.goal)
    console.print(shown)
    console.print("[dim]" + ", ".join(f"{k} {v}" for k, v in machine.items()) + "[/]")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--save", action="store_true", help="write it into bench/results/")
    parser.add_argument("--forget", metavar="URL", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.forget:
        asyncio.run(forget(options.forget))
        return 0
    machine = describe(("redis", "cachebox"))
    with tempfile.TemporaryDirectory(prefix="yuanlian-bench-") as scratch:
        server = RedisServer(Path(scratch))
        server.start()
        try:
            figures = asyncio.run(measure(server.url))
        finally:
            server.stop()
    show(figures, machine)
    if options.save:
        save(RESULTS, {"machine": machine, "figures": figures})
    return 0


if __name__ == "__main__":
    sys.exit(main())
