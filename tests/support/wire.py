"""A client connection without a socket: bytes are fed to the gateway in exactly the pieces given, and
what comes back is kept. Sockets decide by themselves where a piece ends; here every split is tried."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from tests.support.corpus import Verdict
from tests.support.edge import Seen
from tests.support.strict_http import Answer, read_answers

from yuanlian.gateway.connection import HttpConnection
from yuanlian.gateway.handler import Handler
from yuanlian.gateway.limits import Limits
from yuanlian.gateway.observer import SilentObserver
from yuanlian.gateway.peers import Peers

_QUIET_TURNS = 6


class Witness:
    """An ASGI application that answers 200 once a request is whole; ``seen`` has those."""

    def __init__(self) -> None:
        self.seen: list[Seen] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = b""
        while True:
            message = await receive()
            if message["type"] != "http.request":
                return
            body += message.get("body", b"")
            if not message.get("more_body", False):
                break
        target = scope["raw_path"].decode("latin-1")
        if scope["query_string"]:
            target += "?" + scope["query_string"].decode("latin-1")
        self.seen.append(Seen(scope["method"], target, scope["query_string"], list(scope["headers"]), body))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})

    def view(self) -> tuple[tuple[str, bytes], ...]:
        return tuple((f"{seen.method} {seen.path}", seen.body) for seen in self.seen)


class WireTransport(asyncio.Transport):
    """Keeps what is written; holds back what arrives while reading is paused."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 50000), "sockname": ("127.0.0.1", 8080)})
        self._protocol: asyncio.Protocol
        self._waiting = bytearray()
        self._reading = True
        self._over = False
        self.written = bytearray()
        self.closed = False
        self.turns = 0

    def connect(self, protocol: asyncio.Protocol) -> None:
        self._protocol = protocol
        protocol.connection_made(self)

    def arrive(self, data: bytes) -> None:
        self._waiting += data
        self._deliver()

    def _deliver(self) -> None:
        if self._reading and self._waiting and not self._over:
            data = bytes(self._waiting)
            self._waiting.clear()
            self._protocol.data_received(data)

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        self.turns += 1
        if not self.closed:
            self.written += data

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview[Any]]) -> None:
        for data in list_of_data:
            self.write(data)

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        """To the client this is the end; the gateway only reads on for a moment."""
        self.closed = True

    def close(self) -> None:
        self.abort()

    def abort(self) -> None:
        self.closed = True
        if not self._over:
            self._over = True
            asyncio.get_running_loop().call_soon(self._protocol.connection_lost, None)

    def is_closing(self) -> bool:
        return self._over

    def pause_reading(self) -> None:
        self._reading = False

    def resume_reading(self) -> None:
        self._reading = True
        asyncio.get_running_loop().call_soon(self._deliver)

    def is_reading(self) -> bool:
        return self._reading

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        assert isinstance(protocol, asyncio.Protocol)
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol


class Exchange:
    """What became of one connection: ``answers`` (final ones), ``interim`` (how many ``100 Continue``)."""

    def __init__(self, written: bytes, closed: bool, witness: Witness) -> None:
        answers = read_answers(written)
        self.answers: list[Answer] = [answer for answer in answers if answer.status >= 200]
        self.interim = len(answers) - len(self.answers)
        self.seen = witness.seen
        self.verdict = Verdict(tuple(a.status for a in self.answers), closed, witness.view())


async def exchange(handler: Handler, witness: Witness, pieces: Iterable[bytes]) -> Exchange:
    """Feeds the pieces one by one to a new connection, letting the gateway do all it can in between.
    The client leaves at the end."""
    witness.seen = []
    transport = WireTransport()
    transport.connect(HttpConnection(handler, SilentObserver(), Limits(), Peers(1000)))
    for piece in pieces:
        transport.arrive(piece)
        await _quiet(transport, 2)
    await _quiet(transport, _QUIET_TURNS)
    closed = transport.closed
    transport.abort()
    await asyncio.sleep(0)
    return Exchange(bytes(transport.written), closed, witness)


async def _quiet(transport: WireTransport, turns: int) -> None:
    """Until nothing was written for so many turns of the event loop."""
    quiet, before = 0, transport.turns
    while quiet < turns:
        await asyncio.sleep(0)
        quiet = quiet + 1 if transport.turns == before else 0
        before = transport.turns
