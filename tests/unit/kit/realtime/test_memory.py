"""What ``MemoryHub`` keeps, and for how long."""

from __future__ import annotations

import asyncio

import pytest

from yuanlian.kit.realtime.hub import Event
from yuanlian.kit.realtime.memory import MemoryHub


class Listener:
    def __init__(self, tenant_id: str) -> None:
        self.tenant_id = tenant_id
        self.user_id = "user_1"
        self.heard = 0

    def deliver(self, frame: bytes, cursor: str) -> None:
        self.heard += 1

    def close(self, code: int) -> None:
        pass

    def resync(self) -> None:
        pass


class Time:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def events(tenant: str, count: int, size: int = 10) -> list[Event]:
    return [Event(tenant, ("tenant",), {"text": "x" * size}) for _ in range(count)]


def test_history_holds_the_newest_events_up_to_its_number() -> None:
    async def scenario() -> None:
        hub, listener = MemoryHub(max_events=10), Listener("a")
        start = hub.attach(listener, ["tenant"])
        epoch = start.partition("-")[0]
        await hub.publish(events("a", 25))
        assert not hub.replay(listener, start)
        assert not hub.replay(listener, f"{epoch}-14")
        listener.heard = 0
        assert hub.replay(listener, f"{epoch}-15")
        assert listener.heard == 10

    asyncio.run(scenario())


def test_history_holds_the_newest_events_up_to_its_bytes() -> None:
    async def scenario() -> None:
        hub = MemoryHub(max_bytes=10_000)
        await hub.publish(events("a", 100, size=2000))
        assert hub.size < 12_000
        await hub.publish(events("a", 1, size=50_000))
        assert hub.size < 12_000

    asyncio.run(scenario())


def test_an_event_too_big_for_history_is_delivered_and_asks_those_who_missed_it_to_start_over() -> None:
    async def scenario() -> None:
        hub, listener = MemoryHub(max_bytes=1000), Listener("a")
        start = hub.attach(listener, ["tenant"])
        await hub.publish(events("a", 1, size=5000))
        assert listener.heard == 1
        assert not hub.replay(listener, start)
        assert hub.replay(listener, await hub.cursor("a"))

    asyncio.run(scenario())


def test_tenants_that_nobody_watches_are_forgotten_after_a_while() -> None:
    async def scenario() -> None:
        time = Time()
        hub = MemoryHub(idle_s=60, now=time)
        watcher = Listener("watched")
        start = hub.attach(watcher, ["tenant"])
        for number in range(500):
            await hub.publish(events(f"tenant_{number}", 1))
        assert hub.tenants == 501
        time.now = 61
        for _ in range(20):
            await hub.publish(events("busy", 1))
        assert hub.tenants == 2
        await hub.publish(events("watched", 1))
        assert watcher.heard == 1
        assert hub.replay(watcher, start)

    asyncio.run(scenario())


def test_a_tenant_is_kept_for_its_last_client_to_come_back() -> None:
    async def scenario() -> None:
        time = Time()
        hub, listener = MemoryHub(idle_s=60, now=time), Listener("a")
        start = hub.attach(listener, ["tenant"])
        time.now = 100
        hub.detach(listener)
        await hub.publish(events("a", 3))
        time.now = 150
        await hub.publish(events("b", 1))
        back = Listener("a")
        hub.attach(back, ["tenant"])
        assert hub.replay(back, start)
        assert back.heard == 3

    asyncio.run(scenario())


def test_a_forgotten_tenant_starts_a_new_epoch() -> None:
    async def scenario() -> None:
        time = Time()
        hub = MemoryHub(idle_s=60, now=time)
        old = await hub.cursor("a")
        time.now = 100
        await hub.publish(events("b", 1))
        assert hub.tenants == 1
        listener = Listener("a")
        hub.attach(listener, ["tenant"])
        assert not hub.replay(listener, old)

    asyncio.run(scenario())


def test_all_histories_together_stay_within_their_bytes() -> None:
    async def scenario() -> None:
        hub = MemoryHub(max_total_bytes=200_000)
        watchers = [Listener(f"tenant_{number}") for number in range(50)]
        for watcher in watchers:
            hub.attach(watcher, ["tenant"])
        for round_ in range(20):
            for number in range(100):
                await hub.publish(events(f"tenant_{number}", 1, size=2000 + round_))
        assert hub.size <= 200_000 + 5000
        assert all(watcher.heard == 20 for watcher in watchers)

    asyncio.run(scenario())


def test_an_event_that_has_no_json_form_is_refused_and_leaves_no_gap() -> None:
    async def scenario() -> None:
        hub, listener = MemoryHub(), Listener("a")
        start = hub.attach(listener, ["tenant"])
        with pytest.raises(TypeError):
            await hub.publish([Event("a", ("tenant",), {"what": object()})])
        assert await hub.cursor("a") == start
        await hub.publish(events("a", 1))
        assert hub.replay(listener, start)
        assert listener.heard == 2

    asyncio.run(scenario())


def test_a_long_publication_lets_others_run_in_between() -> None:
    async def scenario() -> None:
        hub = MemoryHub()
        for _ in range(100):
            hub.attach(Listener("a"), ["tenant"])
        publication = asyncio.ensure_future(hub.publish(events("a", 200)))
        turns = 0
        while not publication.done():
            turns += 1
            await asyncio.sleep(0)
        assert turns >= 10

    asyncio.run(scenario())
