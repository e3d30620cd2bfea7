"""What is remembered of an instance's last head changes nothing but the time it takes to read the next."""

from __future__ import annotations

import asyncio
import math
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.corpus import hostile_answers

from yuanlian.gateway.gathering import Turn
from yuanlian.gateway.upstreams.attempts import AttemptError
from yuanlian.gateway.upstreams.http_connection import UpstreamConnection
from yuanlian.gateway.upstreams.known_answer import KnownAnswer
from yuanlian.gateway.upstreams.sink import Collector

HEAD = b"HTTP/1.1 200 OK\r\nServer: s\r\nContent-Length: %d\r\nDate: today\r\nConnection: keep-alive\r\n\r\n"


class _Pool:
    """The pool of one connection."""

    def __init__(self) -> None:
        self.turn = Turn()
        self.known = KnownAnswer()
        self.released = 0

    def release(self, connection: UpstreamConnection) -> None:
        self.released += 1

    def forget(self, connection: UpstreamConnection) -> None: ...


class _Transport:
    """An instance that takes everything."""

    def write(self, data: bytes) -> None: ...

    def abort(self) -> None: ...

    def is_closing(self) -> bool:
        return False


class _Asker:
    """Keeps what an attempt came to."""

    def __init__(self) -> None:
        self.outcome: Any = None

    def done(self) -> bool:
        return self.outcome is not None

    def set_result(self, status: int, /) -> None:
        self.outcome = status

    def set_exception(self, error: Exception, /) -> None:
        assert isinstance(error, AttemptError)
        self.outcome = (type(error.error), error.unanswered, error.paid)


def converse(pieces: list[list[bytes]], *, forgetful: bool = False, method: str = "GET") -> list[Any]:
    """One request after another on one connection, answered in ``pieces``; what came of each.
    ``forgetful``: everything goes through the parser."""

    async def scenario() -> list[Any]:
        pool = _Pool()
        connection = UpstreamConnection(cast(Any, pool))
        connection.connection_made(cast(Any, _Transport()))
        seen: list[Any] = []
        for answer in pieces:
            if connection.lost:
                break
            sink, asker = Collector(), _Asker()
            connection.send(b"?", sink, until=math.inf, stall_s=1, bodiless=method == "HEAD", answer=asker)
            for piece in answer:
                if forgetful:
                    pool.known = KnownAnswer()
                if not connection.lost:
                    connection.data_received(piece)
            if not asker.done():
                connection.connection_lost(None)
            got = sink.status, sink.headers, sink.body(), sink.finished
            seen.append((asker.outcome, got, connection.lost, pool.released))
        return seen

    return asyncio.run(scenario())


def whole(body: bytes, head: bytes = HEAD) -> list[bytes]:
    return [head % len(body) + body]


def test_an_answer_of_another_length_is_read_from_memory() -> None:
    known = KnownAnswer()
    names = [b"server", b"content-length", b"date", b"connection"]
    known.learn(whole(b"hello")[0], 200, list(zip(names, [b"s", b"5", b"today", b"keep-alive"], strict=True)))
    read = known.read(whole(b"hello world")[0])
    assert read is not None
    status, headers, body = read
    assert (status, body, list(headers)[1]) == (200, b"hello world", (b"content-length", b"11"))
    assert known.read(whole(b"")[0]) is not None
    seen = converse([whole(b"hello"), whole(b"hello world"), whole(b"")])
    assert [one[1][2] for one in seen] == [b"hello", b"hello world", b""]
    assert seen == converse([whole(b"hello"), whole(b"hello world"), whole(b"")], forgetful=True)


@pytest.mark.parametrize(
    "data",
    [
        HEAD % 5 + b"hell",
        HEAD % 5 + b"hello!",
        (HEAD % 5).replace(b": 5", b": +5") + b"hello",
        (HEAD % 5).replace(b": 5", b": 5, 5") + b"hello",
        (HEAD % 5).replace(b": 5", b": ") + b"hello",
        (HEAD % 5).replace(b": 5", b": \xb2") + b"hello",
        (HEAD % 5).replace(b"today", b"tomorrow") + b"hello",
        (HEAD % 5).replace(b"200", b"500") + b"hello",
        HEAD % 5 + b"helloHTTP/1.1 200 OK\r\n\r\n",
        (HEAD % 5).replace(b": 5", b": 00000005") + b"hello",
    ],
)
def test_what_differs_in_anything_else_goes_through_the_parser(data: bytes) -> None:
    known = KnownAnswer()
    names = [b"server", b"content-length", b"date", b"connection"]
    known.learn(whole(b"hello")[0], 200, list(zip(names, [b"s", b"5", b"today", b"keep-alive"], strict=True)))
    assert known.read(whole(b"hello")[0]) is not None
    assert known.read(data) is None


def test_an_answer_to_head_has_no_body_whatever_its_head_says() -> None:
    pieces = [whole(b"hello"), [HEAD % 5]]
    assert converse(pieces, method="HEAD") == converse(pieces, forgetful=True, method="HEAD")


_heads = st.sampled_from(
    [
        HEAD,
        b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: %d\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: X-A\r\nX-A: 1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nContent-Length: 5\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\nContent-Length: %d\r\n\r\n",
        b"HTTP/1.1 503 Away\r\nContent-Length: %d\r\n\r\n",
        b"HTTP/1.1 404 Not Found\r\nContent-Length: %d\r\nX: a\r\nX: b\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n",
        b"HTTP/1.1 103 Hints\r\nContent-Length: %d\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: content-length: 5\r\nContent-Length:%d\r\n\r\n",
        b"HTTP/1.1 200 OK\nContent-Length: %d\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%d\r\n",
    ]
)


@st.composite
def answers(draw: st.DrawFn) -> list[list[bytes]]:
    """Mostly with the head of the one before; some damaged, some too long or short, some in pieces."""
    head = draw(_heads)
    conversation = []
    for _ in range(draw(st.integers(2, 5))):
        if draw(st.integers(0, 4)) == 0:
            head = draw(_heads)
        body = draw(st.binary(max_size=12))
        data = head % draw(st.sampled_from([len(body), len(body), len(body), len(body) + 1, 0])) + body
        match draw(st.integers(0, 7)):
            case 0:
                at = draw(st.integers(0, len(data)))
                data = data[:at] + draw(st.binary(max_size=2)) + data[at + draw(st.integers(0, 2)) :]
            case 1:
                data += draw(_heads) % 0
        at = draw(st.integers(0, len(data)))
        conversation.append([data] if draw(st.integers(0, 3)) else [data[:at], data[at:]])
    return conversation


@given(answers(), st.sampled_from(["GET", "GET", "GET", "HEAD"]))
@settings(max_examples=600, deadline=None)
def test_memory_reads_what_the_parser_reads(pieces: list[list[bytes]], method: str) -> None:
    assert converse(pieces, method=method) == converse(pieces, forgetful=True, method=method)


@pytest.mark.parametrize("case", hostile_answers(), ids=lambda case: case.name)
def test_hostile_answers_after_a_good_one_and_after_themselves(case: Any) -> None:
    for pieces in ([whole(b"hello"), [case.data], whole(b"hello")], [[case.data], [case.data], [case.data]]):
        assert converse(pieces) == converse(pieces, forgetful=True)
