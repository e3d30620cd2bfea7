"""Writing one response to the client, as it comes. Source: RFC 9112 §6."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Protocol

from yuanlian.gateway.answer_headers import STANDARD
from yuanlian.gateway.answer_headers import BrokenResponseError as BrokenResponseError
from yuanlian.gateway.body import StreamedBody
from yuanlian.gateway.http import RefusedError, Request, Response, error_response
from yuanlian.gateway.rate_limit import LimitReachedError
from yuanlian.gateway.upstreams.known_answer import KnownHeaders
from yuanlian.kit.errors import AppError


class WriteGate(Protocol):
    """The writing side of a connection."""

    @property
    def transport(self) -> asyncio.Transport | None:
        """None once the client has left."""
        ...

    @property
    def writing_paused(self) -> bool:
        """The client reads more slowly than we write."""
        ...

    async def writable(self) -> None:
        """Waits while ``writing_paused``."""
        ...


class ResponseWriter:
    """Implements ``ResponseSink`` on a connection. The head leaves with the first piece.

    ``extra``: header lines (``name: value\\r\\n``) to add to whatever is answered. After the client
    has left, everything is accepted and thrown away, so that a forwarded write can end in peace.
    """

    __slots__ = ("_bodiless", "_chunked", "_gate", "_head", "_length", "bytes_out", "extra", "finished",
                 "keep_alive", "request", "started", "status")  # fmt: skip

    def __init__(self, gate: WriteGate, request: Request, *, keep_alive: bool) -> None:
        self._gate = gate
        self.request = request
        self._head = b""
        self._length: int | None = None
        self._chunked = False
        self._bodiless = False
        self.keep_alive = keep_alive
        self.extra = b""
        self.status = 0
        self.bytes_out = 0
        self.started = False
        self.finished = False

    def start(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """``headers``: lower-case names; those that belong to one hop are left out.

        Raises:
            BrokenResponseError: a status or header that cannot be sent, or a second start.
        """
        if self.started or not 200 <= status <= 599:
            raise BrokenResponseError(f"status {status}")
        standing = self.request.standing or STANDARD
        length: int | None
        if isinstance(headers, KnownHeaders):
            length, block = headers.passed_on(standing)
        else:
            length, block = standing.passed_on(headers)
        beginning = standing.beginnings.get(status) or standing.beginning(status)
        self._head = b"%b%b\r\n%b%b" % (beginning, self.request.request_id.encode(), self.extra, block)
        self._length = length
        self._bodiless = self.request.method == "HEAD" or status in (204, 304)
        self.status = status
        self.started = True

    def push(self, chunk: bytes) -> None:
        """Sends a piece of the body, without waiting.

        Raises:
            BrokenResponseError: more bytes than the announced length.
        """
        piece = self._piece(chunk)
        transport = self._gate.transport
        if transport is not None:
            transport.write(piece)

    @property
    def ready(self) -> bool:
        return not self._gate.writing_paused

    async def drained(self) -> None:
        await self._gate.writable()

    async def write(self, chunk: bytes) -> None:
        self.push(chunk)
        if self._gate.writing_paused:
            await self._gate.writable()

    def finish(self, chunk: bytes = b"") -> None:
        """Sends the last piece.

        Raises:
            BrokenResponseError: more or fewer bytes than the announced length.
        """
        if self._length is None and self._head:
            self._length = len(chunk)
        piece = self._piece(chunk)
        if self._chunked:
            piece += b"0\r\n\r\n"
        elif self._length is not None and self.bytes_out < self._length and not self._bodiless:
            raise BrokenResponseError(f"{self.bytes_out} of {self._length} bytes")
        self.finished = True
        transport = self._gate.transport
        if transport is not None:
            transport.write(piece)

    def send(self, response: Response) -> None:
        self.start(response.status, response.headers)
        self.finish(response.body)

    @property
    def sent(self) -> bool:
        """Something of this answer has left: there can be no other."""
        return self.started and not self._head

    def fail(self, error: AppError | RefusedError) -> None:
        """Answers ``error`` in its envelope, instead of whatever was started; only before ``sent``."""
        self.started = False
        status = None
        if isinstance(error, RefusedError):
            status, error = error.status, error.error
        if isinstance(error, LimitReachedError):
            self.extra = error.lines
        self.send(error_response(error, self.request, status))

    def _piece(self, chunk: bytes) -> bytes:
        """What goes out for ``chunk``: before it the head if it has not left, around it the framing."""
        if self.finished or not self.started:
            raise BrokenResponseError("a body outside a response")
        head = self._take_head() if self._head else b""
        self.bytes_out += len(chunk)
        if self._bodiless:
            return head
        if self._chunked:
            return b"%b%x\r\n%b\r\n" % (head, len(chunk), chunk) if chunk else head
        if self._length is not None and self.bytes_out > self._length:
            raise BrokenResponseError(f"{self.bytes_out} of {self._length} bytes")
        return head + chunk

    def _take_head(self) -> bytes:
        head, self._head = self._head, b""
        body = self.request.body
        if isinstance(body, StreamedBody) and not body.complete:
            self.keep_alive = False  # what is still to come of the request will not be read to its end
            body.answered = True
        framing = b""
        if self._length is not None:
            framing = b"content-length: %d\r\n" % self._length if self.status != 204 else b""
        elif self._bodiless:
            pass
        elif self.request.version == "1.0":
            self.keep_alive = False
        else:
            self._chunked = True
            framing = b"transfer-encoding: chunked\r\n"
        return b"%b%b%b\r\n" % (head, framing, self._connection())

    def _connection(self) -> bytes:
        if not self.keep_alive:
            return b"connection: close\r\n"
        return b"connection: keep-alive\r\n" if self.request.version == "1.0" else b""
