"""One HTTP request as the edge sees it, and the small words of the protocol. Source: RFC 9110, 9112."""

from __future__ import annotations

import string
from collections.abc import Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING, Literal, NamedTuple

import msgspec

from yuanlian.kit.context import RequestContext
from yuanlian.kit.envelope import encode, failure
from yuanlian.kit.errors import AppError
from yuanlian.kit.i18n import negotiate
from yuanlian.kit.ids import new_id

if TYPE_CHECKING:
    from yuanlian.gateway.answer_headers import AnswerHeaders
    from yuanlian.gateway.body import StreamedBody
    from yuanlian.gateway.remembered import HeaderBlock
    from yuanlian.gateway.routes import Route
    from yuanlian.gateway.upstreams.upstream import UpstreamRequest

Headers = list[tuple[bytes, bytes]]
Method = Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
"""What a route can name."""

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})

STATUS_LINES: dict[int, bytes] = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus
}


class Request(msgspec.Struct):
    """A parsed request. Everything is as sent, except that header names are lower case.

    ``target``: request target (``/a%20b?x=1``). ``path``, ``query``: its two halves, undecoded,
    without the ``?``. ``headers``: in order, repeats kept; ``first`` has the first value of each name.
    ``client``: peer address and port. ``started``: ``time.perf_counter()`` at the request's head.

    What has a default is filled in on the way: ``body`` when it is whole or, when it is long, while it
    arrives, ``route`` (the template) and ``matched``, ``tenant_id`` and ``user_id`` once known,
    ``standing`` (what the route adds to any answer), ``trace_id`` (32 hex digits) and ``outgoing``
    when an upstream gets it. ``block``: where ``headers`` come from when they were read before.
    """

    method: str
    target: bytes
    path: bytes
    query: bytes
    headers: Headers
    first: dict[bytes, bytes]
    client: tuple[str, int]
    version: str
    started: float
    request_id: str
    body: bytes | StreamedBody = b""
    keep_alive: bool = True
    block: HeaderBlock | None = None
    route: str = ""
    tenant_id: str = ""
    user_id: str = ""
    matched: Route | None = None
    scheme: str = "http"
    standing: AnswerHeaders | None = None
    trace_id: str = ""
    outgoing: UpstreamRequest | None = None

    @property
    def instance(self) -> str:
        """``host:port`` of whom an upstream chose for it."""
        return self.outgoing.instance if self.outgoing is not None else ""

    def header(self, name: bytes) -> bytes | None:
        """The first value of a header; ``name`` in lower case."""
        return self.first.get(name)


class Response(NamedTuple):
    """An answer whose body is at hand."""

    status: int
    headers: Headers
    body: bytes = b""


class RefusedError(Exception):
    """The connection cannot go on: answer ``status`` with the error's envelope, then close.

    The statuses that the envelope's error codes do not name (408, 414, 431) are told truthfully as
    the HTTP status and the envelope's ``code``; ``error.code`` is then the nearest one.
    """

    def __init__(self, error: AppError, status: int | None = None) -> None:
        self.error = error
        self.status = status
        super().__init__(str(error))


def error_response(error: AppError, request: Request, status: int | None = None) -> Response:
    """The envelope of ``error`` in the language of the request."""
    language = request.first.get(b"accept-language", b"").decode("latin-1")
    context = RequestContext(request.request_id, negotiate(language), started=request.started)
    envelope = failure(error, context)
    if status is not None:
        envelope.code = status
    headers: Headers = [
        (b"content-type", b"application/json; charset=utf-8"),
        (b"cache-control", b"no-store"),
    ]
    headers += [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in error.headers]
    return Response(envelope.code, headers, encode(envelope))


_ID_BYTES = (string.ascii_letters + string.digits + "_.-").encode()


def choose_request_id(sent: bytes | None) -> str:
    """The client's ``X-Request-ID`` when it is ``[A-Za-z0-9_.-]{1,64}``, else a new one. CONTRACT §3."""
    if sent and len(sent) <= 64 and not sent.translate(None, _ID_BYTES):
        return sent.decode("ascii")
    return new_id("req")


def tokens(value: bytes) -> Iterable[bytes]:
    """The lower-case members of a comma-separated header value."""
    return (part.strip().lower() for part in value.split(b","))
