"""What ends a connection on ``/ws``. CONTRACT §7."""

from __future__ import annotations

import asyncio
import functools
import json
import time
from typing import Any

import pytest
from tests.support.websocket import WAIT_S, Client, Edge, on_both_loops
from websockets.exceptions import ConnectionClosed, InvalidStatus

from yuanlian.kit.realtime.hub import Event


def test_the_end_of_the_token_ends_the_connection() -> None:
    async def scenario() -> None:
        async with Edge() as edge:
            client = await edge.sign_in(lifetime_s=2)
            assert await client.closed_with() == 4401

    on_both_loops(scenario)


def test_logging_out_ends_the_connections_of_that_sign_in_only() -> None:
    async def scenario() -> None:
        async with Edge() as edge:
            phone = await edge.sign_in(sid="phone")
            tablet = await edge.sign_in(sid="tablet")
            await edge.revocations.revoke_session("phone", int(time.time()) + 3600)
            assert await phone.closed_with() == 4401
            await tablet.hear_nothing_but_pong()

    on_both_loops(scenario)


def test_a_role_change_ends_the_members_connections_in_that_tenant_only() -> None:
    async def scenario() -> None:
        async with Edge() as edge:
            here, there = await edge.sign_in("user_1", "a"), await edge.sign_in("user_1", "b")
            colleague = await edge.sign_in("user_2", "a")
            await edge.revocations.revoke_member("a", "user_1", int(time.time()))
            assert await here.closed_with() == 4401
            await there.hear_nothing_but_pong()
            await colleague.hear_nothing_but_pong()

    on_both_loops(scenario)


def test_suspending_a_tenant_ends_its_connections_only() -> None:
    async def scenario() -> None:
        async with Edge() as edge:
            ours, theirs = await edge.sign_in(tenant="a"), await edge.sign_in(tenant="b")
            edge.tenants.set_status("b", "active")
            edge.tenants.set_status("a", "suspended")
            assert await ours.closed_with() == 4403
            await theirs.hear_nothing_but_pong()

    on_both_loops(scenario)


def test_a_service_can_end_a_users_connections_with_a_code() -> None:
    async def scenario() -> None:
        async with Edge() as edge:
            client = await edge.sign_in("user_1")
            await edge.hub.close_user("a", "user_1", 4403)
            await edge.announce("too late", "user:user_1")
            assert await client.closed_with() == 4403

    on_both_loops(scenario)


def test_what_ends_a_connection_also_ends_one_that_is_still_being_admitted() -> None:
    async def logged_out(edge: Edge) -> None:
        await edge.revocations.revoke_session("s", int(time.time()) + 3600)

    async def role_changed(edge: Edge) -> None:
        await edge.revocations.revoke_member("a", "user_1", int(time.time()))

    async def suspended(edge: Edge) -> None:
        edge.tenants.set_status("a", "suspended")

    async def other_children(edge: Edge) -> None:
        await edge.hub.close_user("a", "user_1", 4401)

    async def scenario(change: Any, code: int) -> None:
        async with Edge() as edge:
            edge.service.open.clear()
            client = await edge.connect()
            await client.say({"type": "auth", "token": edge.token(sid="s"), "tenantId": "a"})
            async with asyncio.timeout(WAIT_S):
                while not edge.service.asked:
                    await asyncio.sleep(0.001)
            await change(edge)
            edge.service.open.set()
            assert await client.closed_with() == code
            await edge.deserted()

    for change, code in ((logged_out, 4401), (role_changed, 4401), (suspended, 4403), (other_children, 4401)):
        on_both_loops(functools.partial(scenario, change, code))


def test_stopping_tells_every_client_and_refuses_new_ones() -> None:
    async def scenario() -> None:
        async with Edge() as edge:
            clients = [await edge.sign_in(), await edge.connect()]
            stopping = asyncio.create_task(edge.endpoint.stop())
            assert [await client.closed_with() for client in clients] == [1001, 1001]
            await stopping
            assert edge.endpoint.connections == 0
            with pytest.raises(InvalidStatus, match="503"):
                await edge.connect()

    on_both_loops(scenario)


def test_stopping_does_not_wait_for_a_client_that_does_not_answer() -> None:
    async def scenario() -> None:
        async with Edge() as edge:
            reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
            writer.write(HANDSHAKE)
            await reader.readuntil(b"\r\n\r\n")
            await edge.endpoint.stop(0.05)
            assert edge.endpoint.connections == 0
            writer.close()

    on_both_loops(scenario)


def test_connections_are_counted_in_and_out() -> None:
    async def scenario() -> None:
        async with Edge() as edge:
            client = await edge.sign_in()
            dropped = await edge.sign_in()
            assert (edge.observer.opened, edge.observer.closed) == (2, 0)
            await client.socket.close()
            dropped.socket.transport.abort()
            await edge.deserted()
            assert (edge.observer.opened, edge.observer.closed) == (2, 2)


def test_nothing_remembers_a_connection_that_is_gone() -> None:
    async def scenario() -> None:
        async with Edge() as edge:
            leaver, dropped = await edge.sign_in(), await edge.sign_in()
            kicked, refused = await edge.sign_in("user_2"), await edge.connect()
            await refused.say("?")
            assert edge.hub.subscribers == 3
            await leaver.socket.close()
            dropped.socket.transport.abort()
            await edge.hub.close_user("a", "user_2", 4401)
            assert await kicked.closed_with() == 4401
            await edge.deserted()
            assert edge.hub.subscribers == 0
            assert edge.endpoint.sessions_of("a") == 0

    on_both_loops(scenario)


def test_a_client_that_talks_while_its_answer_is_pending_is_read_no_further() -> None:
    async def scenario() -> None:
        async with Edge(frame_burst=10_000) as edge:
            edge.service.open.clear()
            reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
            writer.write(HANDSHAKE + _masked_text(_auth_json(edge)))
            await reader.readuntil(b"\r\n\r\n")
            writer.write(_masked_text("x" * 60_000) * 400)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.5):
                    await writer.drain()
            writer.transport.abort()
            edge.service.open.set()
            await edge.deserted()

    on_both_loops(scenario)


async def _flood(edge: Edge) -> None:
    """16 MiB: more than the kernel holds for one connection."""
    event = Event("a", ("user:user_1",), {"data": {"text": "x" * 65_536}})
    for _ in range(256):
        await edge.hub.publish([event])
        await asyncio.sleep(0)


def test_a_client_that_does_not_read_is_cut_and_keeps_nobody_waiting() -> None:
    async def scenario() -> None:
        async with Edge(max_buffered=300_000, close_timeout_s=0.1) as edge:
            reader, writer = await asyncio.open_connection("127.0.0.1", edge.port, limit=1024)
            writer.write(HANDSHAKE + _masked_text(_auth_json(edge)))
            await reader.readuntil(b"\r\n\r\n")
            await asyncio.sleep(0.05)
            assert edge.endpoint.connections == 1
            await _flood(edge)
            await edge.deserted()
            writer.transport.abort()

    on_both_loops(scenario)


def test_a_client_that_reads_too_slowly_is_told_so_when_it_reads_on() -> None:
    async def scenario() -> None:
        async with Edge(max_buffered=300_000) as edge:
            socket = await edge.connect(max_queue=1)
            await socket.say(_auth_json(edge))
            assert (await socket.hear())["type"] == "auth_success"
            await _flood(edge)
            assert await socket.closed_with() == 4408
            await edge.deserted()

    on_both_loops(scenario)


def test_a_dead_peer_is_noticed_and_cut() -> None:
    async def scenario() -> None:
        async with Edge(keepalive_s=0.05) as edge:
            reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
            writer.write(HANDSHAKE)
            await reader.readuntil(b"\r\n\r\n")
            assert (await reader.readexactly(4)) == b"\x89\x00\x89\x00"
            await edge.deserted()
            writer.close()

    on_both_loops(scenario)


def test_a_living_peer_answers_pings_and_stays() -> None:
    async def scenario() -> None:
        async with Edge(keepalive_s=0.02) as edge:
            client = await edge.sign_in()
            await asyncio.sleep(0.3)
            await client.hear_nothing_but_pong()

    on_both_loops(scenario)


async def _says_until_closed(client: Client, message: Any, times: int) -> int:
    try:
        for _ in range(times):
            await client.say(message)
    except ConnectionClosed:
        pass
    return await client.closed_with()


def test_a_client_that_says_too_much_is_cut() -> None:
    async def scenario() -> None:
        async with Edge(frame_burst=20, frames_per_s=1) as edge:
            client = await edge.sign_in()
            assert await _says_until_closed(client, {"type": "ping"}, 40) == 4429

    on_both_loops(scenario)


def test_a_message_over_64_kib_ends_the_connection() -> None:
    async def scenario() -> None:
        async with Edge() as edge:
            client = await edge.sign_in()
            await client.say("x" * 65_536)
            assert (await client.hear())["type"] == "error"
            assert await _says_until_closed(client, "x" * 65_537, 1) == 1009

    on_both_loops(scenario)


HANDSHAKE = (
    b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


def _auth_json(edge: Edge) -> str:
    return json.dumps({"type": "auth", "tenantId": "a", "token": edge.token()})


def _masked_text(text: str) -> bytes:
    """A client's text frame with a mask of zeros."""
    data = text.encode()
    assert 126 <= len(data) < 65_536
    return b"\x81\xfe" + len(data).to_bytes(2, "big") + b"\0\0\0\0" + data
