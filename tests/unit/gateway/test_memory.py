"""What has ended leaves memory at once: the collector looks at what is old as good as never."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator

import pytest
from tests.support.edge import edge
from tests.support.instances import asking, instance, ok, upstream_to
from tests.support.websocket import on_both_loops

from yuanlian.gateway.connection import HttpConnection
from yuanlian.gateway.upstreams.http_connection import UpstreamConnection
from yuanlian.gateway.upstreams.sink import Collector


@pytest.fixture(autouse=True)
def _nothing_is_collected() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def _living(kind: type) -> int:
    """They have no room for a weak reference."""
    return sum(type(found) is kind for found in gc.get_objects())


async def _gone(kind: type) -> None:
    """Waits: a listener remembers for a second who has come."""
    async with asyncio.timeout(10):
        while _living(kind):
            await asyncio.sleep(0.05)


def test_a_connection_to_an_instance_is_gone_when_it_is_lost() -> None:
    async def scenario() -> None:
        async with instance(lambda *_: ok()) as one, upstream_to([one.url]) as upstream:
            await upstream.forward(asking(), Collector())
            assert _living(UpstreamConnection) == 1
        await _gone(UpstreamConnection)

    on_both_loops(scenario)


def test_a_clients_connection_is_gone_when_it_is_lost() -> None:
    async def scenario() -> None:
        async with edge() as e:
            for _ in range(3):
                assert (await e.get("/open/x")).status == 200
            await _gone(HttpConnection)

    on_both_loops(scenario)
