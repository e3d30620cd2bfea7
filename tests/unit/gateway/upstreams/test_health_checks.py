"""Checks that find out soon who is gone, with the policy as it is by default."""

from __future__ import annotations

import asyncio

from tests.support.instances import instance, listening, ok, read_request, upstream_to

from yuanlian.gateway.upstreams.http import HttpOptions


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
