"""From bytes to requests, however the bytes arrive."""

from __future__ import annotations

import asyncio
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from yuanlian.gateway.body import StreamedBody
from yuanlian.gateway.http import RefusedError, Request
from yuanlian.gateway.intake import Intake
from yuanlian.gateway.limits import Limits

STREAM = (
    b"GET /a?x=1 HTTP/1.1\r\nHost: h\r\nX-Long:   padded \t \r\n\r\n"
    b"POST /b HTTP/1.1\r\nHost: h\r\nContent-Length: 11\r\n\r\nhello world"
    b"\r\nPUT /c HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nT: 1\r\n\r\n"
    b"DELETE /d HTTP/1.1\r\nHost: h\r\nCookie: a=1\r\nCookie: b=2\r\n\r\n"
)
EXPECTED = [
    ("GET", b"/a", b"x=1", b"", b"padded"),
    ("POST", b"/b", b"", b"hello world", None),
    ("PUT", b"/c", b"", b"abcde", None),
    ("DELETE", b"/d", b"", b"", None),
]


class _Reader:
    """Keeps what the intake reports."""

    def __init__(self, limit: int = 100) -> None:
        self.requests: list[Request] = []
        self._limit = limit

    def body_limit(self, request: Request) -> int:
        return self._limit

    def may_upgrade(self, request: Request) -> bool:
        return False

    def request_ready(self, request: Request) -> None:
        self.requests.append(request)

    def body_ended(self, request: Request) -> None: ...

    def body_wanted(self) -> None: ...


def feed(intake: Intake, data: bytes) -> None:
    while data:
        data = data[intake.feed(data) :]


@given(st.lists(st.integers(0, len(STREAM)), max_size=40))
def test_the_requests_do_not_depend_on_how_the_bytes_are_cut(cuts: list[int]) -> None:
    reader = _Reader()
    intake = Intake(reader, ("127.0.0.1", 1), Limits())
    edges = [0, *sorted(cuts), len(STREAM)]
    for start, end in pairwise(edges):
        feed(intake, STREAM[start:end])
    seen = [(r.method, r.path, r.query, r.body, r.header(b"x-long")) for r in reader.requests]
    assert seen == EXPECTED
    assert [value for name, value in reader.requests[3].headers if name == b"cookie"] == [b"a=1", b"b=2"]


LONG = b"POST /b HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
CHUNKS = [bytes([number]) * (number * 40) for number in range(1, 100)]


@given(st.lists(st.integers(0, 200_000), max_size=40))
def test_a_long_body_does_not_depend_on_how_it_is_cut_either(cuts: list[int]) -> None:
    body = b"".join(b"%x;n=1\r\n%b\r\n" % (len(chunk), chunk) for chunk in CHUNKS) + b"0\r\nT: 1\r\n\r\n"
    stream = LONG + body + STREAM
    reader = _Reader(limit=1_000_000)
    intake = Intake(reader, ("127.0.0.1", 1), Limits())
    for start, end in pairwise([0, *sorted(cut for cut in cuts if cut < len(stream)), len(stream)]):
        feed(intake, stream[start:end])
    long = reader.requests[0].body
    assert isinstance(long, StreamedBody)
    assert (long.length, long.complete, long.received) == (None, True, sum(map(len, CHUNKS)))
    assert asyncio.run(_all(long)) == b"".join(CHUNKS)
    assert [(r.method, r.body) for r in reader.requests[1:]] == [(e[0], e[3]) for e in EXPECTED]


async def _all(body: StreamedBody) -> bytes:
    whole = b""
    while piece := await body.read():
        whole += piece
    return whole


@given(
    st.lists(
        st.one_of(
            st.binary(max_size=40),
            st.sampled_from(
                [STREAM, STREAM[:60], b"\r\n", b"Content-Length: 5\r\n", b"Connection: upgrade\r\n"]
            ),
            st.sampled_from(
                [b"Upgrade: x\r\n", b"Transfer-Encoding: chunked\r\n", b"Host: h\r\n", b"0\r\n\r\n"]
            ),
            st.sampled_from([b"POST / HTTP/1.1\r\n", b"GET / HTTP/1.0\r\n", b"CONNECT / HTTP/1.1\r\n"]),
        ),
        max_size=12,
    )
)
def test_whatever_comes_is_a_request_a_refusal_or_an_upgrade(pieces: list[bytes]) -> None:
    reader = _Reader(limit=10)
    intake = Intake(reader, ("127.0.0.1", 1), Limits(head_bytes=200, headers=10, target_bytes=50))
    try:
        for piece in pieces:
            feed(intake, piece)
    except RefusedError:
        pass
    for request in reader.requests:
        assert isinstance(request.body, bytes)
        assert len(request.body) <= 10
        assert len(request.target) <= 50
        assert len(request.headers) <= 10
        assert sum(len(name) + len(value) for name, value in request.headers) <= 200
        assert request.path.startswith(b"/")
        assert request.request_id
