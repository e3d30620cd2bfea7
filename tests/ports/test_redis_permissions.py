"""What is said of a Redis user who may not do all that the platform does, against real servers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support import servers

from deploy.servers.redis import Redis as RedisServer
from yuanlian.kit.caching.redis import RedisStore
from yuanlian.kit.channels import Channels
from yuanlian.kit.clock import SystemClock
from yuanlian.kit.realtime.hub import Event
from yuanlian.kit.realtime.redis import RedisHub
from yuanlian.kit.redis import Redis
from yuanlian.kit.redis_check import RedisRefusedError, check
from yuanlian.kit.redis_needs import Needs, listening, opening, probes
from yuanlian.kit.registry.redis import RedisRegistry
from yuanlian.kit.registry.registry import Instance
from yuanlian.kit.resilience.memory import MemoryRateLimiter
from yuanlian.kit.resilience.redis import RedisRateLimiter
from yuanlian.runtime.servers import CACHE_NEEDS, REGISTRY_NEEDS

NAME, PASSWORD = "yuanlian", "of-a-user-with-few-permissions"
NEEDS = {"cache": CACHE_NEEDS, "registry": REGISTRY_NEEDS}


def rules_of(needs: Needs, *, cluster: bool = False) -> list[str]:
    found = [*opening(cluster=cluster), *probes(needs, "yuanlian"), *listening(needs)]
    rules = [rule for probe in found for rule in (probe.rule, probe.place) if rule]
    return list(dict.fromkeys(rules))


def missing_rules() -> Iterator[tuple[str, str]]:
    for name, needs in NEEDS.items():
        for rule in rules_of(needs):
            yield name, rule


def allow(server: RedisServer, rules: list[str]) -> None:
    answer = server.ask("ACL", "SETUSER", NAME, "reset", "on", f">{PASSWORD}", *rules)
    assert answer == b"+OK\r\n", answer


def url_of(server: RedisServer) -> str:
    return f"redis://{NAME}:{PASSWORD}@127.0.0.1:{server.port}/0"


async def asked(url: str, needs: Needs) -> str:
    return await check(url, needs)


@pytest.mark.parametrize(("name", "rule"), list(missing_rules()))
def test_the_rule_that_is_missing_is_named(name: str, rule: str) -> None:
    server, needs = servers.redis(), NEEDS[name]
    allow(server, [other for other in rules_of(needs) if other != rule])
    with pytest.raises(RedisRefusedError) as refused:
        asyncio.run(asked(url_of(server), needs))
    said = str(refused.value)
    assert said.rpartition(": ")[2] == rule  # and nothing else
    assert PASSWORD not in said


@pytest.mark.parametrize("rule", ["+info", "+cluster|slots", "+command", "+asking", "+xadd"])
def test_so_is_one_that_only_a_cluster_needs(rule: str) -> None:
    cluster, rules = servers.redis_cluster(), rules_of(CACHE_NEEDS, cluster=True)
    url = url_of(cluster.nodes[0]) + "?cluster=true"
    for node in cluster.nodes:
        allow(node, rules)
    assert asyncio.run(asked(url, CACHE_NEEDS)).startswith("Redis ")
    for node in cluster.nodes:
        allow(node, [other for other in rules if other != rule])
    with pytest.raises(RedisRefusedError) as refused:
        asyncio.run(asked(url, CACHE_NEEDS))
    assert str(refused.value).rpartition(": ")[2] == rule


def test_a_user_without_any_permission_hears_of_it() -> None:
    server = servers.redis()
    allow(server, [])
    with pytest.raises(RedisRefusedError, match="info"):
        asyncio.run(asked(url_of(server), CACHE_NEEDS))


def test_every_node_of_a_cluster_is_asked() -> None:
    cluster = servers.redis_cluster()
    whole = ["+@all", "~*", "&*"]
    for node in cluster.nodes:
        allow(node, whole)
    url = url_of(cluster.nodes[0]) + "?cluster=true"
    assert asyncio.run(asked(url, CACHE_NEEDS)).startswith("Redis ")
    allow(cluster.nodes[2], [*whole, "-xadd", "-subscribe"])
    with pytest.raises(RedisRefusedError, match=r": \+xadd \+subscribe$"):
        asyncio.run(asked(url, CACHE_NEEDS))


@pytest.mark.parametrize("name", NEEDS)
def test_asking_leaves_nothing_behind_and_is_heard_by_nobody(name: str) -> None:
    server = servers.redis()

    async def scenario() -> list[bytes]:
        heard: list[bytes] = []
        redis = Redis(server.url)
        channels = Channels(redis)
        ready = asyncio.Event()
        channels.listen(NEEDS[name].channels[-1], heard.append, on_open=ready.set)
        await channels.start()
        await ready.wait()
        await asked(server.url, NEEDS[name])
        await redis.execute("PUBLISH", NEEDS[name].channels[-1], "the end")
        while not heard:
            await asyncio.sleep(0.01)
        await channels.stop()
        await redis.close()
        return heard

    assert asyncio.run(scenario()) == [b"the end"]
    assert server.ask("DBSIZE") == b":0\r\n"


def test_a_user_with_these_permissions_can_do_all_that_is_done() -> None:
    """So that the lists are complete: everything that works over Redis, with no more than they name."""
    server = servers.redis()
    allow(server, list(dict.fromkeys([*rules_of(CACHE_NEEDS), *rules_of(REGISTRY_NEEDS)])))

    async def scenario() -> None:
        redis = Redis(url_of(server))
        channels = Channels(redis)
        hub, store = RedisHub(redis, channels), RedisStore(redis, channels)
        limiter = RedisRateLimiter(redis, MemoryRateLimiter(SystemClock()))
        registry = RedisRegistry(redis, channels)
        assert (await asked(url_of(server), CACHE_NEEDS)) == (await asked(url_of(server), REGISTRY_NEEDS))
        await channels.start()
        await hub.start()
        await registry.start()
        await hub.ready("t")
        await hub.publish([Event("t", ("tenant",), {"type": "counted"})])
        assert (await hub.cursor("t")).endswith("-1")
        await hub.close_user("t", "u", 4401)
        prefix = "tenant:t:timezone"
        version = await store.version(prefix)
        assert await store.claim(prefix, "1", version, "token")
        assert await store.put(prefix, "1", version, "token", b"x", fresh_s=9, stale_s=9)
        assert await store.find(prefix, "1", version) is not None
        assert await store.claim(prefix, "1", version, "token")
        await store.release(prefix, "1", version, "token")
        await store.drop(prefix, "1", version)
        await store.drop_all(prefix)
        await limiter.hit("ip:1", 10, 1000)
        assert server.ask("KEYS", "limit:*") != b"*0\r\n"
        instance = Instance("tenant", "i", "127.0.0.1", 1, "1.0")
        await registry.register(instance)
        assert await registry.heartbeat("tenant", "i")
        assert await registry.knows("tenant", "i")
        assert list(await registry.services()) == ["tenant"]
        await registry.deregister("tenant", "i")
        while hub._closings.owed:
            await asyncio.sleep(0.01)
        await registry.stop()
        await hub.stop()
        await channels.stop()
        await redis.close()

    asyncio.run(asyncio.wait_for(scenario(), 30))


def test_the_operators_guide_names_them_all() -> None:
    guide = (Path(__file__).parents[2] / "docs/operations.md").read_text().split()
    for needs in NEEDS.values():
        assert [rule for rule in rules_of(needs, cluster=True) if rule not in guide] == []
