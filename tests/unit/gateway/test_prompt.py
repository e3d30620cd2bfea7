"""A request that is served without a task of its own, and what becomes of it when something goes wrong."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from tests.support.edge import Finished

from yuanlian.gateway.connection import HttpConnection
from yuanlian.gateway.handler import PromptHandler
from yuanlian.gateway.http import Request, Response
from yuanlian.gateway.limits import Limits
from yuanlian.gateway.peers import Peers
from yuanlian.gateway.response import ResponseWriter
from yuanlian.gateway.upstreams.upstream import Then
from yuanlian.kit.errors import AuthenticationError

GET = b"GET /%b HTTP/1.1\r\nHost: h\r\n\r\n"
_OK = Response(200, [(b"content-type", b"text/plain")], b"ok")


class _Handler(PromptHandler):
    """Keeps what was begun until the test says what comes of it."""

    def __init__(self) -> None:
        self.begun: list[tuple[ResponseWriter, Then]] = []
        self.awaited: list[bytes] = []
        self.cancelled = 0

    def body_limit(self, request: Request) -> int:
        return 10

    def upgrade(self, request: Request) -> None: ...

    async def handle(self, request: Request, response: ResponseWriter) -> None:
        self.awaited.append(request.path)
        response.send(_OK)

    def begin(self, request: Request, response: ResponseWriter, then: Then) -> _Handler | None:
        if request.path == b"/refused":
            raise AuthenticationError
        if request.path == b"/waits":
            then(self.handle(request, response))
            return None
        self.begun.append((response, then))
        return self

    def cancel(self) -> None:
        self.cancelled += 1
        self.begun.pop()[1](None)

    def answer(self) -> None:
        response, then = self.begun.pop()
        response.send(_OK)
        then(None)


class _Transport(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.closed = False

    def write(self, data: Any) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    abort = close

    def can_write_eof(self) -> bool:
        return False

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("127.0.0.1", 5) if name == "peername" else default


class _Wire:
    """One connection without a socket."""

    def __init__(self) -> None:
        self.handler = _Handler()
        self.observer = Finished()
        self.peers: Peers[HttpConnection] = Peers(10)
        self.transport = _Transport()
        self.connection = HttpConnection(cast(Any, self.handler), self.observer, Limits(), self.peers)
        self.connection.connection_made(self.transport)

    async def get(self, *paths: bytes) -> None:
        self.connection.data_received(b"".join(GET % path for path in paths))
        await asyncio.sleep(0)  # what was read in one turn of the loop is begun in the next

    async def statuses(self) -> list[int]:
        for _ in range(10):
            await asyncio.sleep(0)
        return [int(part[:3]) for part in self.transport.written.split(b"HTTP/1.1 ")[1:]]

    def lines(self) -> list[int]:
        return [line.status for line in self.observer.lines]


def test_the_answer_needs_no_task() -> None:
    async def scenario() -> None:
        wire = _Wire()
        before = len(asyncio.all_tasks())
        await wire.get(b"a")
        assert len(asyncio.all_tasks()) == before
        wire.handler.answer()
        assert await wire.statuses() == [200]
        await wire.get(b"b")
        wire.handler.answer()
        assert await wire.statuses() == [200, 200]
        assert wire.lines() == [200, 200]
        assert wire.handler.awaited == []

    asyncio.run(scenario())


def test_what_comes_meanwhile_waits_for_its_turn() -> None:
    async def scenario() -> None:
        wire = _Wire()
        await wire.get(b"a")
        await wire.get(b"b", b"c")
        assert await wire.statuses() == []
        wire.handler.answer()
        assert await wire.statuses() == [200, 200, 200]
        assert wire.handler.awaited == [b"/b", b"/c"]

    asyncio.run(scenario())


def test_an_error_is_answered_at_once_and_what_waits_is_awaited() -> None:
    async def scenario() -> None:
        wire = _Wire()
        await wire.get(b"refused")
        await wire.get(b"waits")
        assert await wire.statuses() == [401, 200]
        await wire.get(b"refused")
        assert await wire.statuses() == [401, 200, 401]
        assert wire.lines() == [401, 200, 401]

    asyncio.run(scenario())


@pytest.mark.parametrize("path", [b"a", b"waits"])
def test_leaving_in_the_same_turn_leaves_nothing_behind(path: bytes) -> None:
    async def scenario() -> None:
        wire = _Wire()
        await wire.get(path)
        wire.connection.connection_lost(None)
        assert await wire.statuses() == []
        assert wire.lines() == [499]
        assert not list(wire.peers)

    asyncio.run(scenario())


def test_a_request_is_not_begun_for_a_client_that_has_left() -> None:
    async def scenario() -> None:
        wire = _Wire()
        wire.connection.data_received(GET % b"a")
        wire.connection.connection_lost(None)
        assert await wire.statuses() == []
        assert wire.handler.begun == []
        assert not list(wire.peers)

    asyncio.run(scenario())


def test_a_listener_that_drains_answers_what_was_read_already() -> None:
    async def scenario() -> None:
        wire = _Wire()
        wire.connection.data_received(GET % b"waits")
        wire.connection.drain()
        assert await wire.statuses() == [200]
        assert wire.transport.closed
        assert b"connection: close" in wire.transport.written

    asyncio.run(scenario())
