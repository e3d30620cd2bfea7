"""What every ``Registry`` promises, in memory, in Redis, in a cluster of three masters."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.support import servers

from deploy.servers.redis import Redis as RedisServer
from yuanlian.kit.channels import Channels
from yuanlian.kit.clock import SystemClock
from yuanlian.kit.redis import Redis, RedisAwayError
from yuanlian.kit.registry.memory import MemoryRegistry
from yuanlian.kit.registry.redis import RedisRegistry
from yuanlian.kit.registry.registry import Instance, Registry

SHORT_MS = 400


@asynccontextmanager
async def memory(_: str) -> AsyncIterator[Registry]:
    yield MemoryRegistry(SystemClock())


@asynccontextmanager
async def shared(url: str, lifetime_ms: int = 60_000) -> AsyncIterator[RedisRegistry]:
    redis = Redis(url, timeout_s=servers.PATIENCE_S)
    channels = Channels(redis)
    registry = RedisRegistry(redis, channels, lifetime_ms=lifetime_ms, refresh_s=0.1)
    await registry.start()
    await channels.start()
    await until(lambda: channels.connected)
    try:
        yield registry
    finally:
        await registry.stop()
        await channels.stop()
        await redis.close()


async def until(condition: Callable[[], bool], within_s: float = 60.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


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


def instance(number: int, name: str = "svc") -> Instance:
    return Instance(name, f"i{number}", "127.0.0.1", 9000 + number, "0.1.0")


def run(url: str, scenario: Callable[[Registry], Awaitable[None]]) -> None:
    async def main() -> None:
        async with shared(url) if url else memory(url) as registry:
            await scenario(registry)

    asyncio.run(main())


def test_who_registers_is_found_oldest_first(url: str) -> None:
    async def scenario(registry: Registry) -> None:
        await registry.register(instance(2))
        await asyncio.sleep(0.005)
        await registry.register(instance(1))
        await registry.register(instance(3, "other"))
        found = await registry.instances("svc")
        assert [i.id for i in found] == ["i2", "i1"]
        assert [(i.host, i.port, i.version, i.status) for i in found] == [
            ("127.0.0.1", 9002, "0.1.0", "up"),
            ("127.0.0.1", 9001, "0.1.0", "up"),
        ]
        assert all(abs(i.registeredAt - time.time() * 1000) < 60_000 for i in found)
        assert sorted(await registry.services()) == ["other", "svc"]

    run(url, scenario)


def test_who_says_goodbye_is_gone_and_a_service_with_nobody_too(url: str) -> None:
    async def scenario(registry: Registry) -> None:
        await registry.register(instance(1))
        await registry.register(instance(2))
        await registry.deregister("svc", "i1")
        assert [i.id for i in await registry.instances("svc")] == ["i2"]
        await registry.deregister("svc", "i2")
        await registry.deregister("svc", "i2")
        assert list(await registry.instances("svc")) == []
        assert await registry.services() == {}

    run(url, scenario)


def test_nobody_knows_a_heartbeat_of_a_stranger(url: str) -> None:
    async def scenario(registry: Registry) -> None:
        assert not await registry.heartbeat("svc", "i1")
        await registry.register(instance(1))
        assert await registry.heartbeat("svc", "i1")
        assert not await registry.heartbeat("other", "i1")

    run(url, scenario)


def test_draining_is_seen(url: str) -> None:
    async def scenario(registry: Registry) -> None:
        await registry.register(instance(1))
        await registry.register(Instance("svc", "i1", "127.0.0.1", 9001, "0.1.0", "draining"))
        assert [i.status for i in await registry.instances("svc")] == ["draining"]

    run(url, scenario)


def test_watchers_hear_of_changes_until_they_stop(url: str) -> None:
    async def scenario(registry: Registry) -> None:
        heard: list[list[str]] = []

        def listen(instances: Sequence[Instance]) -> None:
            heard.append([i.id for i in instances])

        stop = registry.watch("svc", listen)
        await registry.register(instance(1))
        await until(lambda: heard[-1:] == [["i1"]])
        await registry.register(instance(2))
        await until(lambda: heard[-1:] == [["i1", "i2"]])
        await registry.deregister("svc", "i1")
        await until(lambda: heard[-1:] == [["i2"]])
        known = len(heard)
        stop()
        await registry.register(instance(3))
        await registry.instances("svc")
        assert len(heard) == known

    run(url, scenario)


def test_a_change_is_heard_in_every_process(shared_url: str) -> None:
    async def scenario(registry: Registry) -> None:
        heard: list[list[str]] = []
        async with shared(shared_url) as other:
            other.watch("svc", lambda found: heard.append([i.id for i in found]))
            await registry.register(instance(1))
            await until(lambda: heard[-1:] == [["i1"]])
            await registry.deregister("svc", "i1")
            await until(lambda: heard[-1:] == [[]])

    run(shared_url, scenario)


def test_a_message_that_nobody_understands_deafens_nobody(shared_url: str) -> None:
    async def scenario(here: Registry) -> None:
        heard: list[Sequence[Instance]] = []
        here.watch("svc", heard.append)
        async with shared(shared_url) as elsewhere:
            redis = Redis(shared_url, timeout_s=servers.PATIENCE_S)
            try:
                for garbage in (b"", b"{", b"\xff", b'{"name": 5}'):
                    await redis.execute("PUBLISH", "services", garbage)
            finally:
                await redis.close()
            await elsewhere.register(instance(1))
            await until(lambda: any(i.id == "i1" for living in heard for i in living))
            # By the message, long before anybody would find out by looking.
            await elsewhere.deregister("svc", "i1")
            await until(lambda: bool(heard) and not heard[-1])

    run(shared_url, scenario)


def test_one_that_nobody_understands_hides_no_other(shared_url: str) -> None:
    async def scenario(registry: Registry) -> None:
        await registry.register(instance(1, "mixed"))
        redis = Redis(shared_url, timeout_s=servers.PATIENCE_S)
        try:
            await redis.execute("HSET", "service:{mixed}:odd", "name", "mixed", "port", "high")
            await redis.execute("ZADD", "services:{mixed}", int(time.time() * 1000) + 60_000, "odd")
            assert [one.id for one in await registry.instances("mixed")] == ["i1"]
        finally:
            await redis.execute("DEL", "service:{mixed}:odd", "services:{mixed}")
            await redis.close()

    run(shared_url, scenario)


class SlowToAnswer(Redis):
    pause_s = 0.0

    async def run(self, *asked: Any) -> Any:
        answer = await super().run(*asked)
        await asyncio.sleep(self.pause_s)
        return answer


def test_an_answer_of_before_a_goodbye_brings_nobody_back() -> None:
    url = servers.redis().url

    async def main() -> None:
        redis = SlowToAnswer(url)
        channels = Channels(redis)
        here = RedisRegistry(redis, channels, refresh_s=60)
        await here.start()
        await channels.start()
        try:
            async with shared(url) as elsewhere:
                await until(lambda: channels.connected)
                await elsewhere.register(instance(1, "leaving"))
                redis.pause_s = 0.3
                asked = asyncio.ensure_future(here.instances("leaving"))
                await asyncio.sleep(0.1)
                await elsewhere.deregister("leaving", "i1")
                await asked
                redis.pause_s = 0.0
                assert await here.instances("leaving") == ()
        finally:
            await here.stop()
            await channels.stop()
            await redis.close()

    asyncio.run(main())


def test_who_is_silent_is_gone_after_its_life_and_who_is_not_stays(shared_url: str) -> None:
    async def main() -> None:
        async with shared(shared_url, SHORT_MS) as registry:
            heard: list[list[str]] = []
            registry.watch("svc", lambda found: heard.append([i.id for i in found]))
            await registry.register(instance(1))
            await registry.register(instance(2))
            deadline = time.monotonic() + 10
            while heard[-1:] != [["i2"]]:
                assert await registry.heartbeat("svc", "i2")
                assert time.monotonic() < deadline
                await asyncio.sleep(0.02)
            assert not await registry.heartbeat("svc", "i1")
            assert [i.id for i in await registry.instances("svc")] == ["i2"]

    asyncio.run(main())


@pytest.fixture
def own_redis(tmp_path: Path) -> RedisServer:
    servers.need(RedisServer)
    server = RedisServer(tmp_path / "redis")
    server.start()
    return server


def test_while_redis_is_away_the_last_known_set_serves(own_redis: RedisServer) -> None:
    async def scenario(registry: Registry) -> None:
        await registry.register(instance(1))
        assert len(await registry.instances("svc")) == 1
        own_redis.kill()
        assert [i.id for i in await registry.instances("svc")] == ["i1"]
        assert sorted(await registry.services()) == ["svc"]
        with pytest.raises(RedisAwayError):
            await registry.register(instance(2))

    try:
        run(own_redis.url, scenario)
    finally:
        own_redis.stop()


def test_a_redis_that_lost_its_memory_loses_nobody(own_redis: RedisServer) -> None:
    async def scenario(registry: Registry) -> None:
        heard: list[list[str]] = []
        registry.watch("svc", lambda found: heard.append([i.id for i in found]))
        await registry.register(instance(1))
        await until(lambda: heard[-1:] == [["i1"]])
        own_redis.ask("FLUSHALL")
        assert [i.id for i in await registry.instances("svc")] == ["i1"]
        assert not await registry.heartbeat("svc", "i1")  # it is told to register again
        await registry.register(instance(1))
        assert [i.id for i in await registry.instances("svc")] == ["i1"]
        assert heard[-1] == ["i1"]
        assert [] not in heard[1:]

    try:
        run(own_redis.url, scenario)
    finally:
        own_redis.stop()


def test_a_lost_memory_does_not_keep_the_dead_for_ever(own_redis: RedisServer) -> None:
    async def main() -> None:
        async with shared(own_redis.url, SHORT_MS) as registry:
            await registry.register(instance(1))
            assert len(await registry.instances("svc")) == 1
            own_redis.ask("FLUSHALL")
            deadline = time.monotonic() + 10
            while await registry.instances("svc"):
                assert time.monotonic() < deadline
                await asyncio.sleep(0.02)

    try:
        asyncio.run(main())
    finally:
        own_redis.stop()
