"""The connections to one instance: how many, for how long, and who waits."""

from __future__ import annotations

import asyncio
import contextlib
import socket

import pytest
from tests.support.instances import asking, instance, ok, upstream_to
from tests.support.websocket import on_both_loops

from yuanlian.gateway.upstreams.http import HttpOptions, HttpUpstream
from yuanlian.gateway.upstreams.pool import PoolLimits
from yuanlian.gateway.upstreams.sink import Collector
from yuanlian.kit.errors import ServiceUnavailableError


def _options(**limits: float) -> HttpOptions:
    return HttpOptions(health=None, pool=PoolLimits(**limits))  # type: ignore[arg-type]  # counts and seconds


async def _ask(upstream: HttpUpstream) -> bytes:
    sink = Collector()
    await upstream.forward(asking(), sink)
    return sink.body()


def test_who_finds_all_connections_in_use_waits_for_one() -> None:
    async def scenario() -> None:
        async with (
            instance(lambda _, number: ok(b"%d" % number)) as one,
            upstream_to([one.url], _options(connections=2)) as upstream,
        ):
            one.pause_s = 0.01
            answers = await asyncio.gather(*(_ask(upstream) for _ in range(20)))
            assert sorted(answers, key=int) == [b"%d" % number for number in range(1, 21)]
            assert one.connections == 2

    on_both_loops(scenario)


def test_who_would_wait_behind_too_many_is_refused_and_the_instance_not_blamed() -> None:
    async def scenario() -> None:
        async with (
            instance(lambda *_: ok()) as one,
            upstream_to([one.url], _options(connections=1, waiting=1)) as upstream,
        ):
            one.pause_s = 0.1
            results = await asyncio.gather(*(_ask(upstream) for _ in range(4)), return_exceptions=True)
            assert results.count(b"fine") == 2
            assert sum(isinstance(result, ServiceUnavailableError) for result in results) == 2
            (member,) = upstream.cluster.members.values()
            assert (member.failures, member.outstanding, member.breakers) == (0, 0, {})

    on_both_loops(scenario)


def test_the_turn_of_who_leaves_is_somebody_elses() -> None:
    async def scenario() -> None:
        async with (
            instance(lambda *_: ok()) as one,
            upstream_to([one.url], _options(connections=1)) as upstream,
        ):
            one.pause_s = 0.05
            first, second, third = (asyncio.create_task(_ask(upstream)) for _ in range(3))
            await asyncio.sleep(0.02)
            second.cancel()
            assert [await first, await third] == [b"fine", b"fine"]
            assert len(one.requests) == 2

    on_both_loops(scenario)


def test_a_connection_that_breaks_makes_room() -> None:
    async def scenario() -> None:
        async with (
            instance(lambda _, number: b"" if number == 1 else ok()) as one,
            upstream_to([one.url], _options(connections=1)) as upstream,
        ):
            one.pause_s = 0.02
            results = await asyncio.gather(*(_ask(upstream) for _ in range(3)), return_exceptions=True)
            assert results.count(b"fine") == 2
            assert one.connections == 2

    on_both_loops(scenario)


def test_the_last_used_is_taken_first_and_the_others_grow_old() -> None:
    async def scenario() -> None:
        async with (
            instance(lambda *_: ok()) as one,
            upstream_to([one.url], _options(idle_s=0.3)) as upstream,
        ):
            one.pause_s = 0.02
            await asyncio.gather(*(_ask(upstream) for _ in range(5)))
            one.pause_s = 0
            (member,) = upstream.cluster.members.values()
            latest = member.pool.take(repeatable=True)
            assert latest is not None
            member.pool.release(latest)
            for _ in range(10):
                await asyncio.sleep(0.05)
                await _ask(upstream)
            assert member.pool.take(repeatable=True) is latest
            assert member.pool.take(repeatable=True) is None
            assert one.connections == 5

    on_both_loops(scenario)


def test_more_idle_ones_than_wanted_are_closed() -> None:
    async def scenario() -> None:
        async with (
            instance(lambda *_: ok()) as one,
            upstream_to([one.url], _options(idle=1)) as upstream,
        ):
            one.pause_s = 0.02
            await asyncio.gather(*(_ask(upstream) for _ in range(3)))
            (member,) = upstream.cluster.members.values()
            assert member.pool.take(repeatable=True) is not None
            assert member.pool.take(repeatable=True) is None

    on_both_loops(scenario)


def test_who_does_not_take_connections_is_given_up_in_time() -> None:
    """A listener whose queue is full drops what comes, as an unreachable host does."""

    async def scenario() -> None:
        with contextlib.ExitStack() as stack:
            deaf = stack.enter_context(socket.socket())
            deaf.bind(("127.0.0.1", 0))
            deaf.listen(0)
            for _ in range(8):
                waiting = stack.enter_context(socket.socket())
                waiting.setblocking(False)
                waiting.connect_ex(deaf.getsockname())
            url = f"http://127.0.0.1:{deaf.getsockname()[1]}"
            async with upstream_to([url], _options(connect_s=0.1)) as upstream:
                with pytest.raises(ServiceUnavailableError):
                    async with asyncio.timeout(30):
                        await _ask(upstream)

    on_both_loops(scenario)
