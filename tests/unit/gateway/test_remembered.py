"""What is remembered of a connection's last headers changes nothing but the time it takes to read them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.corpus import requests

from yuanlian.gateway.http import RefusedError, Request
from yuanlian.gateway.intake import Intake
from yuanlian.gateway.limits import Limits

BLOCK = b"\r\nHost: h\r\nAuthorization: Bearer t\r\nX-Request-ID: r1\r\nX-Long:  a\t\r\n\r\n"
GET = b"GET /a?x=1 HTTP/1.1"
LIMITS = Limits(target_bytes=60, head_bytes=600, headers=8)
CORPUS = [case.data for case in requests()]


class _Reader:
    """Keeps what the intake reports, and whether a header list came from memory."""

    def __init__(self) -> None:
        self.requests: list[Request] = []

    def body_limit(self, request: Request) -> int:
        return 40

    def may_upgrade(self, request: Request) -> bool:
        return request.path == b"/up"

    def request_ready(self, request: Request) -> None:
        self.requests.append(request)

    def body_ended(self, request: Request) -> None: ...

    def body_wanted(self) -> None: ...

    def remembered(self) -> int:
        return len(self.requests) - len({id(request.headers) for request in self.requests})


def read(
    pieces: list[bytes], limits: Limits = LIMITS, *, forgetful: bool = False
) -> tuple[_Reader, list[Any], int | None]:
    """What a connection makes of ``pieces``, and with which status it refuses to go on. ``forgetful``: it
    has no memory, so that everything goes through the parser."""
    reader = _Reader()
    intake = Intake(reader, ("127.0.0.1", 1), limits)
    refusal: int | None = None
    try:
        for piece in pieces:
            while piece and intake.upgrading is None and not _ends(reader):
                if forgetful:
                    intake._known = None
                piece = piece[intake.feed(piece) :]
    except RefusedError as error:
        refusal = error.status or 400
    return reader, [_meaning(request) for request in reader.requests], refusal


def _ends(reader: _Reader) -> bool:
    """A connection reads nothing behind a request that is its last."""
    return bool(reader.requests) and not reader.requests[-1].keep_alive


def _meaning(request: Request) -> tuple[Any, ...]:
    r = request
    told = r.request_id.encode() == r.first.get(b"x-request-id")
    return r.method, r.target, r.path, r.query, r.headers, r.first, r.version, r.keep_alive, r.body, told


def test_the_second_time_the_headers_come_from_memory() -> None:
    reader, seen, refusal = read([GET + BLOCK, b"HEAD /b HTTP/1.1" + BLOCK, b"OPTIONS /c?? HTTP/1.1" + BLOCK])
    assert (reader.remembered(), refusal) == (2, None)
    assert [one[:4] for one in seen] == [
        ("GET", b"/a?x=1", b"/a", b"x=1"),
        ("HEAD", b"/b", b"/b", b""),
        ("OPTIONS", b"/c??", b"/c", b"?"),
    ]
    assert [request.request_id for request in reader.requests] == ["r1", "r1", "r1"]


def test_what_is_a_requests_own_is_not_remembered() -> None:
    block = b"\r\nHost: h\r\nX-Request-ID: not a valid one\r\n\r\n"
    reader, _, _ = read([GET + block, GET + block])
    one, other = reader.requests
    assert reader.remembered() == 1
    assert one.request_id != other.request_id
    assert one is not other
    assert one.started < other.started


@pytest.mark.parametrize(
    "line",
    [
        b"POST /a HTTP/1.1",
        b"GET /a HTTP/1.0",
        b"GET /a#b HTTP/1.1",
        b"GET http://h/a HTTP/1.1",
        b"GET  /a HTTP/1.1",
        b"GET /" + b"a" * 60 + b" HTTP/1.1",
        b"GET /a HTTP/1.1\r\nX-More: 1",
        GET + BLOCK + GET,
        b"\r\n" + GET,
        b"GET /a HTTP/1.1\n",
        b"GET /\xc3\xa4 HTTP/1.1",
    ],
)
def test_another_line_goes_through_the_parser(line: bytes) -> None:
    pieces = [GET + BLOCK, line + BLOCK]
    reader, seen, refusal = read(pieces)
    assert reader.remembered() == 0
    assert (seen, refusal) == read(pieces, forgetful=True)[1:]


@pytest.mark.parametrize(
    "block",
    [
        b"\r\nHost: h\r\nContent-Length: 0\r\n\r\n",
        b"\r\nHost: h\r\nExpect: 100-continue\r\n\r\n",
        b"\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        b"\r\nHost: h\r\nX-Long: " + b"a" * 2048 + b"\r\n\r\n",
    ],
)
def test_a_block_that_says_more_is_not_remembered(block: bytes) -> None:
    reader, seen, _ = read([GET + block, GET + block], Limits())
    assert (reader.remembered(), len(seen)) == (0, 2)


def test_a_closing_request_is_the_last_one() -> None:
    block = b"\r\nHost: h\r\nConnection: close\r\n\r\n"
    _, seen, refusal = read([GET + block, GET + block])
    assert (len(seen), refusal) == (1, None)


_bytes = st.binary(min_size=1, max_size=3)
_lines = st.one_of(
    st.sampled_from(
        [GET, b"HEAD / HTTP/1.1", b"DELETE /a/b%20c HTTP/1.1", b"OPTIONS * HTTP/1.1", b"GET /up HTTP/1.1"]
    ),
    st.builds(
        lambda method, target, version: b"%b %b HTTP/%b" % (method, target, version),
        st.sampled_from(
            [b"GET", b"HEAD", b"OPTIONS", b"DELETE", b"POST", b"get", b"CONNECT", b"TRACE", b"PRI"]
        ),
        st.text(st.characters(codec="latin-1"), max_size=70).map(lambda text: b"/" + text.encode("latin-1")),
        st.sampled_from([b"1.1", b"1.1", b"1.0", b"2.0", b"1.1 "]),
    ),
)
_blocks = st.sampled_from(
    [
        BLOCK,
        b"\r\nHost: h\r\n\r\n",
        b"\r\nHost: h\r\nCookie: a\r\nCookie: b\r\n\r\n",
        b"\r\nHost: h\r\nConnection: close\r\n\r\n",
        b"\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        b"\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc",
        b"\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"\r\nHost: h\r\nContent-Length: 0\r\n\r\n",
        b"\r\nHost: h\r\nX: 1\n\r\n\r\n",
        b"\nHost: h\n\n",
        b"\r\n\r\n",
        b"\r\nHost: h\r\nHost: h\r\n\r\n",
    ]
)


@st.composite
def conversations(draw: st.DrawFn) -> list[bytes]:
    """Pieces that are mostly one request each, whose headers are mostly those of the one before."""
    pieces: list[bytes] = []
    block = draw(_blocks)
    for _ in range(draw(st.integers(2, 6))):
        if draw(st.integers(0, 3)) == 0:
            block = draw(_blocks)
        piece = draw(_lines) + block
        match draw(st.integers(0, 9)):
            case 0:  # damaged
                at = draw(st.integers(0, len(piece)))
                piece = piece[:at] + draw(_bytes) + piece[at + draw(st.integers(0, 2)) :]
            case 1:  # pipelined
                piece += draw(_lines) + block
            case 2:  # its beginning came before
                at = draw(st.integers(0, len(piece)))
                pieces.append(piece[:at])
                piece = piece[at:]
            case 3:  # what a parser skips, or does not
                pieces.append(draw(st.sampled_from([b"\r\n", b"\r", b"\n", b" ", b"\r\n\r\n", b"G"])))
        pieces.append(piece)
    return pieces


@given(conversations())
@settings(max_examples=600, deadline=None)
def test_memory_reads_what_the_parser_reads(pieces: list[bytes]) -> None:
    assert read(pieces)[1:] == read(pieces, forgetful=True)[1:]


@pytest.mark.parametrize("number", range(len(CORPUS)))
def test_the_attack_corpus_twice_on_one_connection(number: int) -> None:
    """After a harmless request, and after itself."""
    data = CORPUS[number]
    head, separator, _ = data.partition(b"\r\n\r\n")
    for pieces in ([data, data], [GET + b"\r\n" + head.partition(b"\r\n")[2] + separator, data, data]):
        assert read(pieces, Limits())[1:] == read(pieces, Limits(), forgetful=True)[1:]
