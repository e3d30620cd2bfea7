"""Instances live as long as their hearts beat."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from yuanlian.kit.clock import ManualClock
from yuanlian.kit.registry.memory import MemoryRegistry
from yuanlian.kit.registry.registry import HEARTBEAT_MS, LIFETIME_MS, Instance


def _instance(number: int, name: str = "svc") -> Instance:
    return Instance(name, f"i{number}", "127.0.0.1", 9000 + number, "0.1.0")


def test_an_instance_without_heartbeat_is_gone_after_its_lifetime() -> None:
    async def scenario() -> None:
        clock = ManualClock(1_000_000)
        registry = MemoryRegistry(clock)
        await registry.register(_instance(1))
        await registry.register(_instance(2))
        for _ in range(LIFETIME_MS // HEARTBEAT_MS):
            clock.advance(HEARTBEAT_MS)
            assert await registry.heartbeat("svc", "i2")
        assert [i.id for i in await registry.instances("svc")] == ["i2"]
        assert not await registry.heartbeat("svc", "i1")
        clock.advance(LIFETIME_MS)
        assert await registry.instances("svc") == ()
        assert await registry.services() == {}

    asyncio.run(scenario())


def test_registering_again_replaces_and_keeps_the_order() -> None:
    async def scenario() -> None:
        clock = ManualClock(1_000_000)
        registry = MemoryRegistry(clock)
        await registry.register(_instance(1))
        clock.advance(10)
        await registry.register(_instance(2))
        await registry.register(_instance(3, "other"))
        assert [i.id for i in await registry.instances("svc")] == ["i1", "i2"]
        assert set(await registry.services()) == {"svc", "other"}

    asyncio.run(scenario())


def test_watchers_hear_of_every_change_until_they_stop() -> None:
    heard: list[list[str]] = []

    def listen(instances: Sequence[Instance]) -> None:
        heard.append([instance.id for instance in instances])

    async def scenario() -> None:
        clock = ManualClock(1_000_000)
        registry = MemoryRegistry(clock)
        stop = registry.watch("svc", listen)
        await registry.register(_instance(1))
        await registry.register(_instance(2))
        await registry.register(_instance(3, "other"))
        await registry.deregister("svc", "i1")
        await registry.deregister("svc", "i1")
        clock.advance(LIFETIME_MS)
        await registry.instances("svc")
        stop()
        stop()
        await registry.register(_instance(4))

    asyncio.run(scenario())
    assert heard == [["i1"], ["i1", "i2"], ["i2"], []]
