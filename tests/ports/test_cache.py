"""What the cache promises: in memory alone, over Redis, over a cluster of three masters."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
from tests.support import servers

from deploy.servers.redis import Redis as RedisServer
from yuanlian.kit.caching.cache import Cache, Space
from yuanlian.kit.caching.redis import CHANNEL, RedisStore
from yuanlian.kit.channels import Channels
from yuanlian.kit.errors import TenantRequiredError
from yuanlian.kit.redis import Redis
from yuanlian.kit.tenancy.scope import tenant_scope


class Card(msgspec.Struct):
    name: str


class Source:
    """Something that is expensive to ask, and counts how often it is."""

    def __init__(self, answer: str | None = "甲", pause_s: float = 0.0) -> None:
        self.answer = answer
        self.pause_s = pause_s
        self.asked = 0
        self.broken = False

    async def __call__(self) -> Card | None:
        self.asked += 1
        answer = self.answer
        await asyncio.sleep(self.pause_s)
        if self.broken:
            raise RuntimeError("the source is down")
        return Card(answer) if answer is not None else None


@asynccontextmanager
async def sharing(url: str, timeout_s: float = servers.PATIENCE_S) -> AsyncIterator[Cache]:
    """A cache as another process would have it."""
    redis = Redis(url, timeout_s=timeout_s)
    channels = Channels(redis)
    cache = Cache(RedisStore(redis, channels))
    await channels.start()
    await until(lambda: cache._hears)
    try:
        yield cache
    finally:
        await channels.stop()
        await redis.close()


async def until(condition: Callable[[], bool], within_s: float = 60.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.005)


@asynccontextmanager
async def memory() -> AsyncIterator[Cache]:
    yield Cache()


URLS: dict[str, Callable[[], str]] = {
    "memory": lambda: "",
    "redis": lambda: servers.redis().url,
    "redis cluster": lambda: servers.redis_cluster().url,
}


@pytest.fixture(params=list(URLS))
def url(request: pytest.FixtureRequest) -> str:
    return URLS[request.param]()


@pytest.fixture(params=["redis", "redis cluster"])
def shared_url(request: pytest.FixtureRequest) -> str:
    return URLS[request.param]()


def cards(cache: Cache, **options: float) -> Space[Card]:
    return cache.space("tenant", "card", Card, **{"ttl_s": 60.0, **options})  # type: ignore[arg-type]


def run(
    url: str, scenario: Callable[[Cache], Awaitable[None]], timeout_s: float = servers.PATIENCE_S
) -> None:
    async def main() -> None:
        async with sharing(url, timeout_s) if url else memory() as cache:
            with tenant_scope("tenant_a"):
                await scenario(cache)

    asyncio.run(main())


def test_a_value_is_loaded_once_and_then_known(url: str) -> None:
    async def scenario(cache: Cache) -> None:
        space, source = cards(cache), Source()
        assert [await space.get("1", source) for _ in range(3)] == [Card("甲")] * 3
        assert source.asked == 1

    run(url, scenario)


def test_that_there_is_none_is_also_known(url: str) -> None:
    async def scenario(cache: Cache) -> None:
        space, source = cards(cache), Source(None)
        assert [await space.get("1", source) for _ in range(3)] == [None] * 3
        assert source.asked == 1

    run(url, scenario)


def test_none_is_known_for_a_shorter_time(url: str) -> None:
    async def scenario(cache: Cache) -> None:
        space, source = cards(cache, negative_s=0.05), Source(None)
        await space.get("1", source)
        source.answer = "乙"
        await asyncio.sleep(0.1)
        assert await space.get("1", source) == Card("乙")

    run(url, scenario)


def test_what_was_loaded_together_does_not_end_together() -> None:
    """A thousand values that end in one moment would ask their sources in one moment."""

    async def scenario(cache: Cache) -> None:
        space, redis = cards(cache, ttl_s=1000.0), Redis(server)
        for number in range(50):
            await space.get(str(number), Source())
        keys = [key.decode() for key in await redis.execute("KEYS", "tenant:tenant_a:card:*")]
        lives = [await redis.execute("PTTL", key) / 1000 for key in keys]
        await redis.close()
        assert len(lives) == 50
        assert 60 < max(lives) - min(lives) <= 200, "a tenth of its life to either side"

    server = servers.redis().url
    run(server, scenario)


def test_a_dropped_value_is_loaded_again_and_its_neighbours_are_not(url: str) -> None:
    async def scenario(cache: Cache) -> None:
        space, one, two = cards(cache), Source(), Source()
        await space.get("1", one)
        await space.get("2", two)
        one.answer = "乙"
        await space.drop("1")
        assert await space.get("1", one) == Card("乙")
        await space.get("2", two)
        assert (one.asked, two.asked) == (2, 1)

    run(url, scenario)


def test_all_of_a_tenants_values_are_dropped_and_no_other_tenants(url: str) -> None:
    async def scenario(cache: Cache) -> None:
        space, own, other = cards(cache), Source(), Source()
        for id_ in "123":
            await space.get(id_, own)
        with tenant_scope("tenant_b"):
            await space.get("1", other)
        await space.drop_all()
        for id_ in "123":
            await space.get(id_, own)
        with tenant_scope("tenant_b"):
            await space.get("1", other)
        assert (own.asked, other.asked) == (6, 1)

    run(url, scenario)


def test_tenants_never_see_each_others_values(url: str) -> None:
    async def scenario(cache: Cache) -> None:
        space = cards(cache)
        await space.get("1", Source("甲"))
        with tenant_scope("tenant_b"):
            assert await space.get("1", Source("乙")) == Card("乙")
        assert await space.get("1", Source("丙")) == Card("甲")

    run(url, scenario)


@pytest.mark.parametrize(
    ("mine", "yours"),
    [(("a", "b:card:c"), ("a:card:b", "c")), (("a", "1}"), ("a", "1")), (("a", "1%3A"), ("a", "1:"))],
)
def test_no_id_reaches_into_another_key(url: str, mine: tuple[str, str], yours: tuple[str, str]) -> None:
    async def scenario(cache: Cache) -> None:
        space = cards(cache)
        with tenant_scope(mine[0]):
            await space.get(mine[1], Source("甲"))
        with tenant_scope(yours[0]):
            assert await space.get(yours[1], Source("乙")) == Card("乙")

    run(url, scenario)


def test_without_a_tenant_nothing_is_asked(url: str) -> None:
    async def main() -> None:
        async with sharing(url) if url else memory() as cache:
            source = Source()
            with pytest.raises(TenantRequiredError):
                await cards(cache).get("1", source)
            assert source.asked == 0
            common = cache.space("tenant", "settings", Card, ttl_s=60, shared=True)
            assert await common.get("1", source) == Card("甲")

    asyncio.run(main())


def test_a_thousand_who_ask_at_once_cost_one_load(url: str) -> None:
    async def scenario(cache: Cache) -> None:
        space, source = cards(cache), Source(pause_s=0.05)
        answers = await asyncio.gather(*(space.get("1", source) for _ in range(1000)))
        assert answers == [Card("甲")] * 1000
        assert source.asked == 1

    run(url, scenario)


def test_one_who_gives_up_takes_nothing_from_the_others(url: str) -> None:
    async def scenario(cache: Cache) -> None:
        space, source = cards(cache), Source(pause_s=0.1)
        first = asyncio.create_task(space.get("1", source))
        second = asyncio.create_task(space.get("1", source))
        await asyncio.sleep(0.03)
        first.cancel()
        assert await second == Card("甲")
        assert source.asked == 1

    run(url, scenario)


def test_what_the_source_says_wrong_is_the_callers_to_hear_and_not_kept(url: str) -> None:
    async def scenario(cache: Cache) -> None:
        space, source = cards(cache), Source()
        source.broken = True
        for _ in range(2):
            with pytest.raises(RuntimeError, match="the source is down"):
                await space.get("1", source)
        source.broken = False
        assert await space.get("1", source) == Card("甲")
        assert source.asked == 3

    run(url, scenario)


def test_an_older_value_is_served_while_the_source_is_down(url: str) -> None:
    async def scenario(cache: Cache) -> None:
        space, source = cards(cache, ttl_s=0.05), Source()
        await space.get("1", source)
        await asyncio.sleep(0.1)
        source.broken = True
        assert await space.get("1", source) == Card("甲")
        assert source.asked == 2
        source.broken, source.answer = False, "乙"
        assert await space.get("1", source) == Card("乙")

    run(url, scenario)


def test_an_older_value_is_not_served_for_ever(url: str) -> None:
    async def scenario(cache: Cache) -> None:
        space, source = cards(cache, ttl_s=0.05, stale_s=0.05), Source()
        await space.get("1", source)
        await asyncio.sleep(0.2)
        source.broken = True
        with pytest.raises(RuntimeError):
            await space.get("1", source)

    run(url, scenario)


def test_a_load_that_a_drop_overtook_is_kept_by_nobody(url: str) -> None:
    """It may have read what was there before the change."""

    async def scenario(cache: Cache) -> None:
        for drop in ("one", "all"):
            space, source = cards(cache), Source("甲", pause_s=0.1)
            slow = asyncio.create_task(space.get(drop, source))
            await until(lambda source=source: source.asked == 1)  # type: ignore[misc]
            source.answer, source.pause_s = "乙", 0.0
            await (space.drop(drop) if drop == "one" else space.drop_all())
            assert await space.get(drop, source) == Card("乙")  # asked after the change
            assert await slow == Card("甲")
            assert await space.get(drop, source) == Card("乙")
            await space.drop_all()

    run(url, scenario)


def test_memory_is_bounded() -> None:
    async def main() -> None:
        cache = Cache(size=100)
        with tenant_scope("tenant_a"):
            for number in range(1000):
                await cards(cache).get(str(number), Source())
        assert len(cache) == 100

    asyncio.run(main())


# --- several processes ------------------------------------------------------------------------


def test_another_process_finds_what_one_has_loaded(shared_url: str) -> None:
    async def scenario(cache: Cache) -> None:
        source = Source()
        async with sharing(shared_url) as other:
            await cards(cache).get("1", source)
            assert await cards(other).get("1", source) == Card("甲")
        assert source.asked == 1

    run(shared_url, scenario)


def test_a_drop_reaches_every_process(shared_url: str) -> None:
    async def scenario(cache: Cache) -> None:
        source = Source()
        async with sharing(shared_url) as other:
            for drop in ("one", "all"):
                source.answer = "甲"
                await cards(cache).get("1", source)
                await cards(other).get("1", source)
                source.answer = "乙"
                await (cards(cache).drop("1") if drop == "one" else cards(cache).drop_all())

                async def changed() -> bool:
                    return await cards(other).get("1", source) == Card("乙")

                deadline = time.monotonic() + 5
                while not await changed():
                    assert time.monotonic() < deadline
                    await asyncio.sleep(0.005)
                await cards(cache).drop_all()

    run(shared_url, scenario)


class SlowToTell(RedisStore):
    """Its number of a generation arrives late."""

    def __init__(self, redis: Redis, channels: Channels) -> None:
        super().__init__(redis, channels)
        self.answered, self.arrives = asyncio.Event(), asyncio.Event()

    async def version(self, prefix: str) -> int:
        version = await super().version(prefix)
        self.answered.set()
        await self.arrives.wait()
        return version


def test_a_generation_that_ends_while_it_is_asked_for_is_not_remembered() -> None:
    url = servers.redis().url

    async def scenario(cache: Cache) -> None:
        source = Source("甲")
        await cards(cache).get("1", source)
        redis = Redis(url, timeout_s=servers.PATIENCE_S)
        channels = Channels(redis)
        store = SlowToTell(redis, channels)
        other = Cache(store)
        await channels.start()
        try:
            await until(lambda: other._hears)
            heard = asyncio.Event()
            channels.listen(CHANNEL, lambda _: heard.set())
            early = asyncio.ensure_future(cards(other).get("1", source))
            await store.answered.wait()
            source.answer = "乙"
            await cards(cache).drop_all()
            await heard.wait()
            store.arrives.set()
            await early  # may be of before the drop, and is kept by nobody
            assert await cards(other).get("1", source) == Card("乙")
        finally:
            await channels.stop()
            await redis.close()

    run(url, scenario)


def test_a_drop_reaches_a_generation_that_another_process_has_begun_unheard(shared_url: str) -> None:
    async def scenario(cache: Cache) -> None:
        source = Source("甲")
        await cards(cache).get("1", source)
        before = dict(cache._versions)
        async with sharing(shared_url) as other:
            await cards(other).drop_all()
            await cards(other).get("1", source)
            await until(lambda: not cache._versions)
            cache._versions.update(before)  # as if it were still to be heard of
            source.answer = "乙"
            await cards(cache).drop("1")
            cache._versions.clear()
            assert await cards(cache).get("1", source) == Card("乙")
            await cards(cache).drop_all()

    run(shared_url, scenario)


ASKER = """
import asyncio, json, sys, time
from tests.ports.test_cache import Source, cards, sharing
from yuanlian.kit.tenancy.scope import tenant_scope

async def main():
    async with sharing(sys.argv[1]) as cache:
        print("ready", flush=True)
        sys.stdin.readline()
        source = Source(pause_s=0.2)
        with tenant_scope("tenant_a"):
            answers = await asyncio.gather(*(cards(cache).get("1", source) for _ in range(1000)))
        print(json.dumps({"asked": source.asked, "answers": len({a.name for a in answers})}), flush=True)

asyncio.run(main())
"""


def test_two_processes_with_a_thousand_misses_each_load_once(shared_url: str) -> None:
    root = Path(__file__).parents[2]
    askers = [
        subprocess.Popen(
            [sys.executable, "-c", ASKER, shared_url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=root,
        )
        for _ in range(2)
    ]
    try:
        for asker in askers:
            assert asker.stdout is not None
            assert asker.stdout.readline() == "ready\n"
        results = [json.loads(asker.communicate("go\n", timeout=30)[0]) for asker in _at_once(askers)]
    finally:
        for asker in askers:
            asker.kill()
            asker.wait()
    assert sum(result["asked"] for result in results) == 1
    assert [result["answers"] for result in results] == [1, 1]


def _at_once(askers: list[subprocess.Popen[str]]) -> list[subprocess.Popen[str]]:
    for asker in askers:
        assert asker.stdin is not None
        asker.stdin.write("go\n")
        asker.stdin.flush()
    return askers


# --- faults -----------------------------------------------------------------------------------


@pytest.fixture
def own_redis(tmp_path: Path) -> RedisServer:
    """One that the test may stop."""
    servers.need(RedisServer)
    server = RedisServer(tmp_path / "redis")
    server.start()
    return server


def test_without_its_store_the_cache_goes_on_alone_and_comes_back(own_redis: RedisServer) -> None:
    async def scenario(cache: Cache) -> None:
        space, source = cards(cache), Source()
        await space.get("1", source)
        own_redis.kill()
        await until(lambda: not cache._hears)
        assert await space.get("1", source) == Card("甲")  # loaded: memory may have missed a drop
        assert await space.get("1", source) == Card("甲")  # remembered, for a short time
        assert source.asked == 2
        own_redis.start()
        await until(lambda: cache._hears)
        source.answer = "乙"
        assert await space.get("1", source) == Card("乙")
        async with sharing(own_redis.url) as other:
            assert await cards(other).get("1", source) == Card("乙")
        assert source.asked == 3

    try:
        run(own_redis.url, scenario)
    finally:
        own_redis.stop()


def test_a_drop_while_the_store_is_away_is_made_up_for(own_redis: RedisServer) -> None:
    """It answers again with all that it had: it was only out of reach."""

    async def scenario(cache: Cache) -> None:
        space, source = cards(cache), Source()
        await space.get("1", source)
        own_redis.pause()
        source.answer = "乙"
        await space.drop("1")
        assert await space.get("1", source) == Card("乙")
        own_redis.resume()
        async with sharing(own_redis.url) as other:
            await until(lambda: cache._hears and not cache._owed)
            deadline = time.monotonic() + 10
            while await cards(other).get("1", source) != Card("乙"):
                assert time.monotonic() < deadline
                await asyncio.sleep(0.02)

    try:
        run(own_redis.url, scenario, timeout_s=0.5)
    finally:
        own_redis.resume()
        own_redis.stop()


def test_a_flushed_store_brings_nothing_old_back(own_redis: RedisServer) -> None:
    async def scenario(cache: Cache) -> None:
        source = Source()
        async with sharing(own_redis.url) as other:
            await cards(cache).get("1", source)
            own_redis.ask("FLUSHALL")
            source.answer = "乙"
            await cards(cache).drop_all()
            assert await cards(cache).get("1", source) == Card("乙")
            await until(lambda: len(other) == 0)
            assert await cards(other).get("1", source) == Card("乙")

    try:
        run(own_redis.url, scenario)
    finally:
        own_redis.stop()


def test_a_store_that_refuses_fails_no_change_and_hears_of_it_when_it_lets_us(own_redis: RedisServer) -> None:
    password = own_redis.url.split("redis://:")[1].split("@")[0]
    limited = own_redis.url.replace("redis://:", "redis://limited:")

    async def main() -> None:
        owner = Redis(own_redis.url)
        await owner.execute("ACL", "SETUSER", "limited", "on", f">{password}", "~*", "&*", "+@all", "-del")
        async with sharing(limited) as here, sharing(own_redis.url) as there:
            with tenant_scope("tenant_a"):
                source = Source("甲")
                await cards(there).get("1", source)
                source.answer = "乙"
                await cards(here).drop("1")
                await owner.execute("ACL", "SETUSER", "limited", "+del")

                async def changed() -> bool:
                    return await cards(there).get("1", source) == Card("乙")

                deadline = time.monotonic() + 10
                while not await changed():
                    assert time.monotonic() < deadline
                    await asyncio.sleep(0.02)
        await owner.close()

    try:
        asyncio.run(main())
    finally:
        own_redis.stop()
