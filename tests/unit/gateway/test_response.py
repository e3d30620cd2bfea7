"""One response as it goes over the wire. RFC 9112 §6."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest

from yuanlian.gateway.http import Request
from yuanlian.gateway.response import BrokenResponseError, ResponseWriter

Pairs = list[tuple[bytes, bytes]]


class _Wire:
    """A client that reads everything at once."""

    def __init__(self) -> None:
        self.transport: Any = self
        self.sent: list[bytes] = []
        self.writing_paused = False

    def write(self, data: bytes) -> None:
        self.sent.append(data)

    async def writable(self) -> None: ...


def _writer(
    wire: _Wire, method: str = "GET", version: str = "1.1", keep_alive: bool = True
) -> ResponseWriter:
    request = Request(method, b"/", b"/", b"", [], {}, ("", 0), version, 0.0, "req_1")
    return ResponseWriter(cast(Any, wire), request, keep_alive=keep_alive)


def _sent(wire: _Wire) -> tuple[bytes, set[bytes], bytes]:
    """Status line, header lines without those that every answer has, body."""
    head, _, body = b"".join(wire.sent).partition(b"\r\n\r\n")
    status, *lines = head.split(b"\r\n")
    every = (b"x-", b"referrer-policy", b"cross-origin")
    return status, {line for line in lines if not line.startswith(every)}, body


async def _whole(writer: ResponseWriter) -> None:
    writer.finish(b"hello")


async def _in_pieces(writer: ResponseWriter) -> None:
    await writer.write(b"he")
    await writer.write(b"")
    await writer.write(b"l")
    writer.finish(b"lo")


LENGTH = b"content-length: 5"
CHUNKED = b"transfer-encoding: chunked"
CLOSE = b"connection: close"


@pytest.mark.parametrize(
    ("request_line", "status", "headers", "answer", "lines", "body"),
    [
        (("GET", "1.1"), 200, [], _whole, {LENGTH}, b"hello"),
        (("GET", "1.1"), 200, [(b"content-length", b"5")], _in_pieces, {LENGTH}, b"hello"),
        (("GET", "1.1"), 200, [], _in_pieces, {CHUNKED}, b"2\r\nhe\r\n1\r\nl\r\n2\r\nlo\r\n0\r\n\r\n"),
        (("GET", "1.0"), 200, [], _in_pieces, {CLOSE}, b"hello"),
        (("GET", "1.0"), 200, [], _whole, {LENGTH, b"connection: keep-alive"}, b"hello"),
        (("HEAD", "1.1"), 200, [], _whole, {LENGTH}, b""),
        (("HEAD", "1.1"), 200, [(b"content-length", b"9")], _whole, {b"content-length: 9"}, b""),
        (("HEAD", "1.1"), 200, [], _in_pieces, set(), b""),
        (("GET", "1.1"), 204, [(b"content-length", b"0")], _whole, set(), b""),
        (("GET", "1.1"), 304, [], _whole, {LENGTH}, b""),
        (
            ("GET", "1.1"),
            299,
            [(b"etag", b"1"), (b"connection", b"x")],
            _whole,
            {LENGTH, b"etag: 1"},
            b"hello",
        ),
    ],
)
def test_the_body_is_framed_as_the_protocol_asks(
    request_line: tuple[str, str],
    status: int,
    headers: Pairs,
    answer: Callable[[ResponseWriter], Awaitable[None]],
    lines: set[bytes],
    body: bytes,
) -> None:
    async def scenario() -> None:
        wire = _Wire()
        writer = _writer(wire, *request_line)
        writer.start(status, headers)
        assert not wire.sent
        await answer(writer)
        beginning, told, content = _sent(wire)
        assert beginning.startswith(b"HTTP/1.1 %d " % status)
        assert (told, content) == (lines, body)
        assert writer.finished
        assert writer.keep_alive is (CLOSE not in lines)

    asyncio.run(scenario())


def test_a_whole_answer_is_one_write() -> None:
    wire = _Wire()
    writer = _writer(wire, keep_alive=False)
    writer.extra = b"ratelimit-limit: 1\r\n"
    writer.start(200, [])
    writer.finish(b"hello")
    assert len(wire.sent) == 1
    assert _sent(wire)[1] == {LENGTH, CLOSE, b"ratelimit-limit: 1"}
    assert writer.bytes_out == 5


@pytest.mark.parametrize("body", [b"", b"hell", b"hello!"])
def test_a_body_of_another_length_than_announced_is_broken(body: bytes) -> None:
    writer = _writer(_Wire())
    writer.start(200, [(b"content-length", b"5")])
    with pytest.raises(BrokenResponseError):
        writer.finish(body)
    assert not writer.finished


@pytest.mark.parametrize(
    ("status", "headers"),
    [(101, []), (600, []), (200, [(b"x", b"1\r\nset-cookie: a")]), (200, [(b"x\n", b"1")])],
)
def test_a_head_that_cannot_be_sent_leaves_room_for_another(status: int, headers: Pairs) -> None:
    wire = _Wire()
    writer = _writer(wire)
    with pytest.raises(BrokenResponseError):
        writer.start(status, [(b"content-length", b"99"), *headers])
    writer.start(502, [])
    writer.finish(b"hello")
    assert _sent(wire)[1:] == ({LENGTH}, b"hello")


def test_a_body_outside_a_response_is_broken() -> None:
    writer = _writer(_Wire())
    with pytest.raises(BrokenResponseError):
        writer.finish(b"")
    writer.start(200, [])
    writer.finish(b"")
    with pytest.raises(BrokenResponseError):
        writer.finish(b"")
    with pytest.raises(BrokenResponseError):
        writer.start(200, [])
