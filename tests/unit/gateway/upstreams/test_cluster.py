"""The instances of a service: who is asked as they come, go, fail and recover."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.instances import asking, instance, ok, upstream_to

from yuanlian.gateway.upstreams.cluster import Address, Cluster, Member
from yuanlian.gateway.upstreams.discovery import RegisteredInstances
from yuanlian.gateway.upstreams.ejection import EjectionPolicy
from yuanlian.gateway.upstreams.health_checks import HealthPolicy, Standing
from yuanlian.gateway.upstreams.http import HttpOptions, HttpUpstream
from yuanlian.gateway.upstreams.pool import PoolLimits
from yuanlian.gateway.upstreams.sink import Collector
from yuanlian.kit.clock import ManualClock, SystemClock
from yuanlian.kit.errors import AppError
from yuanlian.kit.registry.memory import MemoryRegistry
from yuanlian.kit.registry.registry import LIFETIME_MS, Instance
from yuanlian.kit.resilience.breaker import CircuitBreaker

_NAMES = [Address("127.0.0.1", port) for port in range(1, 7)]


class _Time:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def _cluster(time: _Time) -> Cluster:
    return Cluster(
        "svc",
        PoolLimits(),
        EjectionPolicy(failures=3),
        lambda: CircuitBreaker(threshold=3, cooldown_s=5, clock=time),
        clock=time,
    )


_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("status"), st.sampled_from([200, 404, 500, 503])),
        st.tuples(st.just("broken"), st.just(0)),
        st.tuples(st.just("pause"), st.integers(1, 20)),
        st.tuples(st.just("health"), st.integers(0, 11)),
        st.tuples(st.just("follow"), st.integers(0, 63)),
    ),
    max_size=80,
)


@given(_STEPS)
@settings(max_examples=60)
def test_whatever_happens_somebody_living_is_asked_and_nothing_is_counted_twice(
    steps: list[tuple[str, int]],
) -> None:
    async def scenario() -> None:
        time = _Time()
        cluster = _cluster(time)
        cluster.follow(_NAMES[:3])
        for what, value in steps:
            members = list(cluster.members.values())
            if what == "pause":
                time.now += value
                cluster.sweep()
            elif what == "health":
                cluster.found(members[value % len(members)], healthy=value >= 6)
            elif what == "follow":
                cluster.follow(name for bit, name in enumerate(_NAMES) if value >> bit & 1)
            else:
                member = cluster.choose("/r")
                if member is None:
                    assert not any(one.admits("/r") for one in _in_use(cluster))
                    continue
                assert member in cluster.members.values()
                probe = member.begin("/r")
                if what == "broken":
                    cluster.failed(member, "/r", probe)
                else:
                    cluster.answered(member, "/r", probe, value)
            good = [one for one in cluster.members.values() if one.healthy and not one.record.ejected]
            if len(good) * 2 >= len(cluster.members):
                assert set(_in_use(cluster)) == set(good)
            else:
                assert set(_in_use(cluster)) == set(cluster.members.values())
            assert all(one.outstanding == 0 for one in cluster.members.values())

    asyncio.run(scenario())


def _in_use(cluster: Cluster) -> Sequence[Member]:
    return cluster.usable


def test_health_needs_several_checks_to_change() -> None:
    standing, policy = Standing(), HealthPolicy(rise=2, fall=3)

    def note(*results: bool) -> list[bool]:
        return [standing.note(policy, succeeded=result) for result in results]

    assert note(False, False, True, False, False, False) == [True, True, True, True, True, False]
    assert note(True, False, True, True) == [False, False, False, True]


def test_an_instance_that_fails_its_checks_is_not_asked_until_they_succeed() -> None:
    async def scenario() -> None:
        options = HttpOptions(health=HealthPolicy(interval_s=0.02, rise=2, fall=2))
        ill = True

        def answer(request: object, number: int) -> bytes:
            return ok(status=b"503 Service Unavailable") if ill else ok(b"back")

        async with (
            instance(answer) as one,
            instance(lambda *_: ok(b"well")) as two,
            upstream_to([one.url, two.url], options) as upstream,
        ):
            first, second = upstream.cluster.members.values()
            await _until(lambda: not first.healthy)
            assert second.healthy
            assert {await _ask(upstream) for _ in range(20)} == {b"well"}
            ill = False
            await _until(lambda: first.healthy)
            assert {await _ask(upstream) for _ in range(60)} == {b"well", b"back"}

    asyncio.run(scenario())


def test_a_slow_instance_is_ejected_and_returns() -> None:
    async def scenario() -> None:
        options = HttpOptions(health=None, ejection=EjectionPolicy(failures=2, first_s=0.3))
        async with (
            instance(lambda *_: ok(b"one")) as one,
            instance(lambda *_: ok(b"two")) as two,
            upstream_to([one.url, two.url], options) as upstream,
        ):
            slow = upstream.cluster.members[Address("127.0.0.1", one.port)]
            one.pause_s = 5
            while not slow.record.ejected:
                await _ask(upstream, timeout_s=0.02)
            one.pause_s = 0
            assert {await _ask(upstream) for _ in range(20)} == {b"two"}
            await _until(lambda: not slow.record.ejected)
            assert {await _ask(upstream) for _ in range(60)} == {b"one", b"two"}

    asyncio.run(scenario())


def test_instances_come_and_go_with_the_registry() -> None:
    async def scenario() -> None:
        clock = ManualClock(1_000_000)
        registry = MemoryRegistry(clock)
        async with instance(lambda *_: ok(b"one")) as one, instance(lambda *_: ok(b"two")) as two:
            await registry.register(Instance("svc", "a", "127.0.0.1", one.port, "1"))
            source = RegisteredInstances(registry, "svc", poll_s=0.02)
            upstream = HttpUpstream("svc", source, HttpOptions(health=None))
            await upstream.start()
            try:
                assert await _ask(upstream) == b"one"
                await registry.register(Instance("svc", "b", "127.0.0.1", two.port, "1"))
                assert {await _ask(upstream) for _ in range(60)} == {b"one", b"two"}
                draining = Instance("svc", "a", "127.0.0.1", one.port, "1", status="draining")
                await registry.register(draining)
                assert {await _ask(upstream) for _ in range(20)} == {b"two"}
                # All expire without a word: the last known keeps serving.
                clock.advance(LIFETIME_MS + 1)
                await asyncio.sleep(0.1)
                assert await _ask(upstream) == b"two"
            finally:
                await upstream.stop()

    asyncio.run(scenario())


def test_a_registry_that_is_away_changes_nothing() -> None:
    class Away(MemoryRegistry):
        async def instances(self, name: str) -> Sequence[Instance]:
            if away:
                raise ConnectionError("no registry")
            return await super().instances(name)

    away = False

    async def scenario() -> None:
        nonlocal away
        registry = Away(ManualClock(1_000_000))
        async with instance(lambda *_: ok(b"one")) as one:
            await registry.register(Instance("svc", "a", "127.0.0.1", one.port, "1"))
            upstream = HttpUpstream(
                "svc", RegisteredInstances(registry, "svc", 0.01), HttpOptions(health=None)
            )
            await upstream.start()
            try:
                away = True
                await asyncio.sleep(0.1)
                assert await _ask(upstream) == b"one"
            finally:
                await upstream.stop()

    asyncio.run(scenario())


def test_an_instance_that_left_finishes_what_it_has_within_its_time() -> None:
    async def scenario() -> None:
        async with instance(lambda *_: ok(b"done")) as one, instance(lambda *_: ok(b"new")) as two:
            one.pause_s = 1.0
            async with upstream_to([one.url]) as upstream:
                in_time = asyncio.create_task(_ask(upstream, timeout_s=30))
                too_late = asyncio.create_task(_ask(upstream, timeout_s=0.1))
                [member] = upstream.cluster.members.values()
                await _until(lambda: member.outstanding == 2)
                upstream.cluster.follow([Address("127.0.0.1", two.port)])
                assert await _ask(upstream) == b"new"
                assert await in_time == b"done"
                assert await too_late == b"GatewayTimeoutError"

    asyncio.run(scenario())


async def _ask(upstream: HttpUpstream, timeout_s: float = 5.0) -> bytes:
    sink = Collector()
    try:
        await upstream.forward(asking(timeout_s=timeout_s), sink)
    except AppError as error:
        return error.type.encode()
    return sink.body()


async def _until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not holds():
            await asyncio.sleep(0.01)


class SlowToLetGo(MemoryRegistry):
    """Needs a moment to end a look that is given up."""

    looks = 0

    async def instances(self, name: str) -> Sequence[Instance]:
        self.looks += 1
        if self.looks > 1:
            try:
                await asyncio.sleep(60)
            finally:
                await asyncio.sleep(0.05)
        return await super().instances(name)


def test_who_stops_a_source_can_be_cancelled_meanwhile() -> None:
    async def scenario() -> None:
        registry = SlowToLetGo(SystemClock())
        source = RegisteredInstances(registry, "svc", poll_s=0.001)
        await source.start(lambda _: None)
        while registry.looks < 2:
            await asyncio.sleep(0.001)
        stopping = asyncio.create_task(source.stop())
        await asyncio.sleep(0.01)
        stopping.cancel()
        await asyncio.wait([stopping], timeout=10)
        assert stopping.cancelled()

    asyncio.run(scenario())
