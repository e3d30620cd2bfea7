"""Checks that find out soon who is gone, with the policy as it is by default."""

from __future__ import annotations

import asyncio

from tests.support.instances import instance, listening, ok, read_request, upstream_to

from yuanlian.gateway.upstreams.cluster import Address, Cluster, Member
from yuanlian.gateway.upstreams.ejection import EjectionPolicy
from yuanlian.gateway.upstreams.health_checks import HealthChecks, HealthPolicy
from yuanlian.gateway.upstreams.http import HttpOptions
from yuanlian.gateway.upstreams.pool import PoolLimits
from yuanlian.kit.resilience.breaker import CircuitBreaker


def test_who_refuses_connections_is_out_without_a_single_request() -> None:
    async def scenario() -> None:
        async with instance(lambda *_: ok()) as one, instance(lambda *_: ok()) as two:
            gone = "http://127.0.0.1:1"
            async with upstream_to([one.url, two.url, gone], HttpOptions()) as upstream:
                *_, third = upstream.cluster.members.values()
                async with asyncio.timeout(5):  # at five seconds between checks it took ten and more
                    while third in upstream.cluster.usable:
                        await asyncio.sleep(0.02)
                assert len(upstream.cluster.usable) == 2

    asyncio.run(scenario())


def test_one_that_hangs_does_not_hold_up_the_checks_of_the_others() -> None:
    async def hang(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await read_request(reader)
        await asyncio.sleep(60)

    async def scenario() -> None:
        async with (
            listening(hang) as port,
            instance(lambda *_: ok()) as one,
            upstream_to([f"http://127.0.0.1:{port}", one.url], HttpOptions()) as upstream,
        ):
            first, second = upstream.cluster.members.values()
            async with asyncio.timeout(10):
                while first.healthy:
                    await asyncio.sleep(0.02)
            assert second.healthy
            assert len(one.requests) >= 3

    asyncio.run(scenario())


def test_a_fault_in_the_checks_of_one_is_got_over_and_no_verdict_is_forgotten() -> None:
    async def scenario() -> None:
        cluster = Cluster("s", PoolLimits(), EjectionPolicy(), CircuitBreaker)
        cluster.follow([Address("127.0.0.1", 1), Address("127.0.0.1", 2)])
        gone, there = cluster.members.values()
        faults, asked_since = [gone, there], {gone: 0, there: 0}
        believed: list[bool] = []

        async def ask(member: Member) -> bool:
            if not gone.healthy and member in faults:
                faults.remove(member)
                raise ZeroDivisionError
            if not faults:
                asked_since[member] += 1
                believed.append(gone.healthy)
            return member is there

        checks = asyncio.create_task(
            HealthChecks(cluster, HealthPolicy(interval_s=0.01, doubt_s=0.01), ask).run()
        )
        async with asyncio.timeout(10):
            while min(asked_since.values()) < 5:
                await asyncio.sleep(0.01)
        assert not any(believed)
        assert there.healthy
        checks.cancel()
        await asyncio.gather(checks, return_exceptions=True)

    asyncio.run(scenario())
