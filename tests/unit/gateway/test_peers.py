"""How many connections one address may have."""

from __future__ import annotations

import asyncio

import pytest
from tests.support import websocket
from tests.support.edge import edge, parse, run
from websockets.asyncio.client import connect

from yuanlian.gateway.limits import Limits
from yuanlian.gateway.peers import Peers

GET = b"GET /open/x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


def test_an_address_may_have_so_many_connections_and_gets_them_back() -> None:
    peers = Peers[int](2)
    assert [peers.enter(number, "192.0.2.1") for number in range(3)] == [True, True, False]
    assert peers.enter(3, "192.0.2.2")
    for number in (0, 2, 2):
        peers.leave(number, "192.0.2.1")
    assert peers.enter(4, "192.0.2.1")
    assert (len(peers), sorted(peers)) == (3, [1, 3, 4])


def test_who_is_expected_counts_and_is_counted_once() -> None:
    peers = Peers[int](1)
    assert [peers.expect(number, "192.0.2.1") for number in range(3)] == [True, True, False]
    peers.give_up(2, "192.0.2.1")
    assert not peers.enter(0, "192.0.2.1")
    peers.give_up(0, "192.0.2.1")
    peers.give_up(1, "192.0.2.1")
    assert (list(peers), peers.enter(3, "192.0.2.1")) == ([0], False)
    for number in (0, 3):
        peers.leave(number, "192.0.2.1")
    assert peers.enter(4, "192.0.2.1")


@pytest.mark.parametrize(
    ("address", "same"),
    [
        ("2001:db8::2", True),
        ("2001:db8::ffff:1%eth0", True),
        ("2001:db8:0:1::1", False),
        ("::ffff:192.0.2.1", False),
    ],
)
def test_an_ipv6_network_of_64_bits_counts_as_one_address(address: str, same: bool) -> None:
    peers = Peers[str](1)
    assert peers.enter("first", "2001:db8::1")
    assert peers.enter("second", address) is not same
    peers.leave("first", "2001:db8::1")
    peers.leave("second", address)
    assert not peers


def test_an_ipv4_address_is_itself_however_it_is_written() -> None:
    peers = Peers[int](1)
    assert [peers.enter(1, "192.0.2.1"), peers.enter(2, "::ffff:192.0.2.1")] == [True, False]
    assert peers.enter(3, "::ffff:192.0.2.2")


def test_one_connection_too_many_is_told_so_and_many_more_are_not_even_that() -> None:
    async def scenario() -> None:
        async with edge(limits=Limits(connections_per_address=2)) as e:
            held = [await asyncio.open_connection("127.0.0.1", e.port) for _ in range(2)]
            refused = [await asyncio.open_connection("127.0.0.1", e.port) for _ in range(2)]
            for reader, writer in refused:
                writer.write(GET)
                (answer,) = parse(await reader.read())
                assert (answer.status, answer.json["error"]["code"]) == (503, "SERVICE_UNAVAILABLE")
                assert answer.headers["connection"] == "close"
            reader, writer = await asyncio.open_connection("127.0.0.1", e.port)
            assert await reader.read() == b""
            for _, other in [*refused, (reader, writer)]:
                other.close()
            while e.observer.open > 2:
                await asyncio.sleep(0.01)
            held.pop()[1].close()
            while e.observer.open > 1:
                await asyncio.sleep(0.01)
            assert (await e.get("/open/x")).status == 200
            held.pop()[1].close()

    run(scenario)


def test_a_listed_proxy_may_have_any_number() -> None:
    async def scenario() -> None:
        limits = Limits(connections_per_address=1)
        async with edge(limits=limits, trusted_proxies=("127.0.0.0/8",)) as e:
            held = [await asyncio.open_connection("127.0.0.1", e.port) for _ in range(5)]
            assert (await e.get("/open/x")).status == 200
            for _, writer in held:
                writer.close()

    run(scenario)


def test_an_upgraded_connection_counts_for_its_address_until_it_is_lost() -> None:
    """It counted no more, so that one address could have as many as there are, by upgrading them."""

    async def scenario() -> None:
        limits = Limits(connections_per_address=2)
        async with websocket.Edge() as ws, edge(websocket=ws.endpoint, limits=limits) as e:
            held = [await connect(f"ws://127.0.0.1:{e.port}/ws", proxy=None) for _ in range(2)]
            assert (await e.get("/open/x")).status == 503
            while e.observer.open:  # the one that was refused
                await asyncio.sleep(0.01)
            for one in held:  # what they speak is theirs
                client = websocket.Client(one)
                await client.say({"type": "auth", "token": ws.token(), "tenantId": "a"})
                assert (await client.hear())["type"] == "auth_success"
            await held[0].close()
            while ws.endpoint.connections > 1:
                await asyncio.sleep(0.01)
            assert (await e.get("/open/x")).status == 200
            held[1].transport.abort()
            await ws.deserted()
            again = [await connect(f"ws://127.0.0.1:{e.port}/ws", proxy=None) for _ in range(2)]
            await asyncio.wait_for(e.server.stop(drain_s=20), 10)  # which leaves them alone
            assert ws.endpoint.connections == 2
            for one in again:
                await one.close()

    websocket.on_both_loops(scenario)
