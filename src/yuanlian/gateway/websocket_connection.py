"""The wire of one WebSocket: handshake, frames, keepalive, closing. RFC 6455 without extensions.

``websockets``' Sans-I/O protocol parses and answers; broadcast frames come ready made and go
straight to the transport.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

from websockets.frames import Frame, Opcode
from websockets.http11 import Request as HandshakeRequest
from websockets.protocol import OPEN
from websockets.server import ServerProtocol

from yuanlian.gateway.http import Request
from yuanlian.gateway.websocket_limits import CloseCode, WebSocketLimits

PING_FRAME = Frame(Opcode.PING, b"").serialize(mask=False)

# The library's "connection open" and "connection closed" are not news; its errors are.
_logger = logging.getLogger("yuanlian.gateway.websocket.protocol")
_logger.setLevel(logging.WARNING)


class MessageListener(Protocol):
    """The one who reads the messages of a connection. Called on the event loop; must not block."""

    def receive(self, message: bytes | None) -> None:
        """A whole text message; None for a binary one, which nobody here speaks."""
        ...

    def ended(self) -> None:
        """Once, when nothing can be sent any more: a close frame went out, or the connection is lost."""
        ...


class WebSocketConnection(asyncio.Protocol):
    """Takes over the transport of an upgraded HTTP request.

    A peer that does not read is cut: the transport reports when more than ``max_buffered`` bytes
    wait, which closes the connection with 4408. Whatever the reason of closing, the peer gets
    ``close_timeout_s`` to answer, then the transport is aborted and its buffer dropped.
    """

    __slots__ = (
        "_allowance",
        "_allowance_at",
        "_fragments",
        "_keepalive",
        "_limits",
        "_listener",
        "_loop",
        "_lost",
        "_protocol",
        "_text",
        "_transport",
        "_unanswered",
        "open",
    )

    def __init__(
        self,
        transport: asyncio.Transport,
        limits: WebSocketLimits,
        lost: Callable[[WebSocketConnection], None],
    ) -> None:
        self._transport = transport
        self._limits = limits
        self._lost = lost
        self._loop = asyncio.get_running_loop()
        self._protocol = ServerProtocol(max_size=limits.max_message, logger=_logger)
        self._listener: MessageListener | None = None
        self._keepalive: asyncio.TimerHandle | None = None
        self._fragments: list[bytes] | None = None
        self._text = False
        self._unanswered = 0
        self._allowance = float(limits.frame_burst)
        self._allowance_at = self._loop.time()
        self.open = False

    def handshake(self, request: Request, *, refuse: str | None = None) -> bool:
        """Answers the upgrade request; False when it was refused, by the protocol or with 503 and
        the text ``refuse``."""
        self._transport.set_protocol(self)
        self._transport.set_write_buffer_limits(high=self._limits.max_buffered)
        self._protocol.receive_data(_request_head(request))
        for event in self._protocol.events_received():
            if isinstance(event, HandshakeRequest):
                response = self._protocol.reject(503, refuse) if refuse else self._protocol.accept(event)
                if request.request_id:
                    response.headers["X-Request-ID"] = request.request_id
                self._protocol.send_response(response)
        self.open = self._protocol.state is OPEN
        self._flush()
        if not self.open:
            self._abort_later()
        return self.open

    def start(self, listener: MessageListener, leftover: bytes) -> None:
        """Messages go to ``listener`` from now on, the first of them perhaps in ``leftover``."""
        self._listener = listener
        self._keepalive = self._loop.call_later(self._limits.keepalive_s, self._keep_alive)
        self.resume_reading()
        if leftover:
            self.data_received(leftover)

    def write(self, frame: bytes) -> None:
        """Sends a ready-made frame; after closing has begun, nothing."""
        if self.open:
            self._transport.write(frame)

    def close(self, code: int) -> None:
        """Starts the closing handshake; nothing happens when closing has begun."""
        if self.open:
            if self._protocol.state is OPEN:  # else it has found a broken frame behind this one
                self._protocol.send_close(code)
            self._flush()

    def abort(self) -> None:
        self._transport.abort()

    def pause_reading(self) -> None:
        if not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        self._unanswered = 0
        self._protocol.receive_data(data)
        for event in self._protocol.events_received():
            if not self.open:
                break
            if isinstance(event, Frame):
                self._frame_received(event)
        self._flush()

    def eof_received(self) -> None:
        self._protocol.receive_eof()
        self._flush()

    def pause_writing(self) -> None:
        self.close(CloseCode.TOO_SLOW)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 -- asyncio's signature
        self._end()
        self._stop_timer()
        self._lost(self)

    def _frame_received(self, frame: Frame) -> None:
        if not self._within_rate():
            self.close(CloseCode.TOO_MANY)
        elif frame.opcode in (Opcode.TEXT, Opcode.BINARY):
            self._text = frame.opcode is Opcode.TEXT
            self._fragments = [bytes(frame.data)]
            self._finish_message(frame.fin)
        elif frame.opcode is Opcode.CONT and self._fragments is not None:
            self._fragments.append(bytes(frame.data))
            self._finish_message(frame.fin)

    def _finish_message(self, fin: bool) -> None:
        if fin and self._fragments is not None and self._listener is not None:
            message = b"".join(self._fragments)
            self._fragments = None
            self._listener.receive(message if self._text else None)

    def _within_rate(self) -> bool:
        now = self._loop.time()
        refill = (now - self._allowance_at) * self._limits.frames_per_s
        self._allowance = min(self._limits.frame_burst, self._allowance + refill) - 1
        self._allowance_at = now
        return self._allowance >= 0

    def _flush(self) -> None:
        """Sends what the protocol has to say, and notices when it has begun to close."""
        writes = self._protocol.data_to_send()
        if writes and not self._transport.is_closing():
            self._transport.write(b"".join(writes))
            if writes[-1] == b"":
                self._finish_writing()
        if self.open and self._protocol.state is not OPEN:
            self._end()
            self._abort_later()

    def _finish_writing(self) -> None:
        """Half-closes, so that the peer still reads our close frame before the connection goes."""
        if self._transport.can_write_eof():
            self._transport.write_eof()
        else:
            self._transport.close()

    def _end(self) -> None:
        self.open = False
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.ended()

    def _abort_later(self) -> None:
        self._stop_timer()
        self.resume_reading()
        self._keepalive = self._loop.call_later(self._limits.close_timeout_s, self._transport.abort)

    def _keep_alive(self) -> None:
        if self._unanswered >= self._limits.missed_pings:
            self._transport.abort()
            return
        self._unanswered += 1
        self.write(PING_FRAME)
        self._keepalive = self._loop.call_later(self._limits.keepalive_s, self._keep_alive)

    def _stop_timer(self) -> None:
        if self._keepalive is not None:
            self._keepalive.cancel()
            self._keepalive = None


def _request_head(request: Request) -> bytes:
    """The request as it was sent, for a parser that starts from bytes."""
    lines = [f"{request.method} ".encode() + request.target + f" HTTP/{request.version}".encode()]
    lines += [name + b": " + value for name, value in request.headers]
    return b"\r\n".join([*lines, b"", b""])
