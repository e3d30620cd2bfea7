"""Listening, sharing a port, and stopping without turning anybody away who has come already."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.support.edge import Recorder, edge, parse
from tests.support.websocket import on_both_loops

from yuanlian.gateway.observer import SilentObserver
from yuanlian.gateway.server import GatewayServer

GET = b"GET /open/x HTTP/1.1\r\nHost: a\r\n\r\n"


@asynccontextmanager
async def _two() -> AsyncIterator[tuple[GatewayServer, GatewayServer, socket.socket]]:
    """Two servers, as two workers have them, and a socket that listens already."""
    async with edge(Recorder()) as e:
        servers = [GatewayServer(e.gateway, SilentObserver()) for _ in range(2)]
        with socket.create_server(("127.0.0.1", 0), backlog=512) as listening:
            yield servers[0], servers[1], listening
            for server in servers:
                await server.stop(drain_s=1)


def _connect(listening: socket.socket) -> socket.socket:
    """Connected as far as the kernel is concerned; nobody has accepted yet."""
    connection = socket.create_connection(listening.getsockname(), timeout=10)
    connection.sendall(GET)
    connection.setblocking(False)
    return connection


async def _answer(connection: socket.socket) -> tuple[int, str]:
    """Status and ``Connection`` of the answer."""
    loop = asyncio.get_running_loop()
    received = b""
    while b"ok" not in received:
        piece = await asyncio.wait_for(loop.sock_recv(connection, 65536), 10)
        assert piece, "closed without an answer"
        received += piece
    [answer] = parse(received)
    connection.close()
    return answer.status, answer.headers.get("connection", "")


def test_who_waits_to_be_accepted_when_a_server_stops_is_answered() -> None:
    async def scenario() -> None:
        async with _two() as (server, _, listening):
            await server.accept_from(listening)
            waiting = [_connect(listening) for _ in range(100)]  # the event loop has had no turn
            stopping = asyncio.create_task(server.stop(drain_s=5))
            answers = await asyncio.gather(*map(_answer, waiting))
            assert [status for status, _ in answers] == [200] * 100
            await stopping

    on_both_loops(scenario)


def test_one_who_came_just_now_may_still_ask_when_a_server_stops() -> None:
    async def scenario() -> None:
        async with _two() as (server, _, listening):
            await server.accept_from(listening)
            reader, writer = await asyncio.open_connection(*listening.getsockname())
            await asyncio.sleep(0.05)
            stopping = asyncio.create_task(server.stop(drain_s=5))
            await asyncio.sleep(0.1)
            writer.write(GET)
            [answer] = parse(await asyncio.wait_for(reader.read(), 10))
            assert (answer.status, answer.headers["connection"]) == (200, "close")
            writer.close()
            await stopping

    on_both_loops(scenario)


def test_a_queue_is_taken_over_from_a_server_that_left() -> None:
    async def scenario() -> None:
        async with _two() as (first, second, listening):
            await first.accept_from(listening)
            await first.accept_from(listening)  # twice is once
            assert await _answer(_connect(listening)) == (200, "")
            first.leave(listening)
            first.leave(listening)
            waiting = [_connect(listening) for _ in range(20)]
            await first.stop(drain_s=1)
            await second.accept_from(listening)
            assert await asyncio.gather(*map(_answer, waiting)) == [(200, "")] * 20

    on_both_loops(scenario)


def test_a_stop_is_not_held_up_by_one_who_never_asks() -> None:
    async def scenario() -> None:
        async with _two() as (server, _, listening):
            await server.accept_from(listening)
            reader, writer = await asyncio.open_connection(*listening.getsockname())
            await asyncio.sleep(0.05)
            await asyncio.wait_for(server.stop(drain_s=20), 10)
            assert await reader.read() == b""
            writer.close()

    on_both_loops(scenario)
