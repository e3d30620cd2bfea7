"""Writing one response to the client, as it comes. Source: RFC 9112 §6."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Protocol

from yuanlian.gateway.http import STATUS_LINES, Request, Response

_SECURITY = (
    b"x-content-type-options: nosniff\r\n"
    b"x-frame-options: DENY\r\n"
    b"referrer-policy: no-referrer\r\n"
    b"cross-origin-resource-policy: same-origin\r\n"
)
# Hop-by-hop fields are ours to say; the others are set above and must not appear twice.
_NOT_PASSED_ON = frozenset(
    {
        b"connection",
        b"cross-origin-resource-policy",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-connection",
        b"referrer-policy",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"x-content-type-options",
        b"x-frame-options",
        b"x-request-id",
    }
)


class BrokenResponseError(Exception):
    """What came from upstream is no valid response; the connection cannot be kept."""


class WriteGate(Protocol):
    """The writing side of a connection."""

    @property
    def transport(self) -> asyncio.Transport | None:
        """None once the client has left."""
        ...

    async def writable(self) -> None:
        """Waits while the client reads more slowly than we write."""
        ...


class ResponseWriter:
    """``start`` once, then ``write`` until ``more`` is False. The head leaves with the first chunk.

    ``extra``: header lines (``name: value\\r\\n``) to add to whatever is answered. After the client
    has left, everything is accepted and thrown away, so that a forwarded write can end in peace.
    """

    __slots__ = ("_bodiless", "_chunked", "_gate", "_head", "_length", "_request", "bytes_out", "extra",
                 "finished", "keep_alive", "started", "status")  # fmt: skip

    def __init__(self, gate: WriteGate, request: Request, *, keep_alive: bool) -> None:
        self._gate = gate
        self._request = request
        self._head: list[bytes] | None = None
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
        self._bodiless = self._request.method == "HEAD" or status in (204, 304)
        head = [
            STATUS_LINES.get(status) or b"HTTP/1.1 %d Unknown\r\n" % status,
            b"x-request-id: %b\r\n" % self._request.request_id.encode(),
            _SECURITY,
            self.extra,
        ]
        lines: list[bytes] = []
        for name, value in headers:
            if name == b"content-length":
                self._length = int(value)
            elif name not in _NOT_PASSED_ON:
                lines.append(b"%b: %b\r\n" % (name, value))
        block = b"".join(lines)
        if block.count(b"\n") != len(lines) or block.count(b"\r") != len(lines):
            raise BrokenResponseError("a line break inside a header")
        head.append(block)
        self._head = head
        self.status = status
        self.started = True

    async def write(self, chunk: bytes, more: bool = False) -> None:
        """Sends a piece of the body; waits while the client is slower than the upstream.

        Raises:
            BrokenResponseError: more or fewer bytes than the announced length.
        """
        if self.finished or not self.started:
            raise BrokenResponseError("a body outside a response")
        pieces = self._take_head(len(chunk), more)
        self.bytes_out += len(chunk)
        if not self._bodiless:
            self._check_length(more)
            pieces += self._framed(chunk, more)
        self.finished = not more
        transport = self._gate.transport
        if transport is not None:
            transport.write(b"".join(pieces))
            if more:
                await self._gate.writable()

    async def send(self, response: Response) -> None:
        self.start(response.status, response.headers)
        await self.write(response.body)

    def _take_head(self, size: int, more: bool) -> list[bytes]:
        head, self._head = self._head, None
        if head is None:
            return []
        if self._length is None and not more:
            self._length = size
        if self.status == 204:
            pass
        elif self._length is not None:
            head.append(b"content-length: %d\r\n" % self._length)
        elif self._bodiless:
            pass
        elif self._request.version == "1.0":
            self.keep_alive = False
        else:
            self._chunked = True
            head.append(b"transfer-encoding: chunked\r\n")
        head.append(self._connection())
        return head

    def _connection(self) -> bytes:
        if not self.keep_alive:
            return b"connection: close\r\n\r\n"
        return b"connection: keep-alive\r\n\r\n" if self._request.version == "1.0" else b"\r\n"

    def _check_length(self, more: bool) -> None:
        if self._length is None:
            return
        if self.bytes_out > self._length or (not more and self.bytes_out < self._length):
            raise BrokenResponseError(f"{self.bytes_out} of {self._length} bytes")

    def _framed(self, chunk: bytes, more: bool) -> tuple[bytes, ...]:
        if not self._chunked:
            return (chunk,)
        framed: tuple[bytes, ...] = (b"%x\r\n" % len(chunk), chunk, b"\r\n") if chunk else ()
        return framed if more else (*framed, b"0\r\n\r\n")
