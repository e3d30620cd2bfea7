"""How much of what a client sends ahead is taken, while its first request is being served."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.support.edge import parse, run

from yuanlian.gateway.http import Request, Response
from yuanlian.gateway.limits import Limits
from yuanlian.gateway.observer import SilentObserver
from yuanlian.gateway.response import ResponseWriter
from yuanlian.gateway.server import GatewayServer
from yuanlian.gateway.upgrade import UpgradeHandler

POST = b"POST /%d HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx"
LAST = b"GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


class _Gate:
    """Answers each request with its target, while ``open``; ``known`` counts those that were parsed."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.known = 0

    def body_limit(self, request: Request) -> int:
        self.known += 1
        return 100

    def upgrade(self, request: Request) -> UpgradeHandler | None:
        return None

    async def handle(self, request: Request, response: ResponseWriter) -> None:
        await self.open.wait()
        response.send(Response(200, [], request.target))


@asynccontextmanager
async def served(gate: _Gate) -> AsyncIterator[int]:
    server = GatewayServer(gate, SilentObserver(), Limits())
    try:
        yield await server.start("127.0.0.1", 0)
    finally:
        gate.open.set()
        await server.stop(1)


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


def test_a_flood_of_requests_is_not_turned_into_objects_before_its_time() -> None:
    async def scenario() -> None:
        gate = _Gate()
        async with served(gate) as port, connected(port) as (reader, writer):
            writer.write(b"".join(POST % number for number in range(5000)) + LAST)
            known = -1
            while known != gate.known:
                known = gate.known
                await asyncio.sleep(0.1)
            assert 0 < known < 500
            gate.open.set()
            answers = parse(await reader.read())
            assert [a.body for a in answers] == [b"/%d" % number for number in range(5000)] + [b"/last"]

    run(scenario)


def test_what_waits_behind_a_refusal_or_a_last_request_is_dropped() -> None:
    async def scenario() -> None:
        gate = _Gate()
        async with served(gate) as port:
            for ending, statuses in ((LAST, {200}), (b"nonsense\r\n\r\n", {200, 400})):
                gate.open.clear()
                async with connected(port) as (reader, writer):
                    requests = b"".join(POST % number for number in range(300))
                    writer.write(requests + ending + requests)
                    await asyncio.sleep(0.05)
                    gate.open.set()
                    answers = parse(await reader.read())
                    assert len(answers) == 301
                    assert {a.status for a in answers} == statuses

    run(scenario)
