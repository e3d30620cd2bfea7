"""What a supervisor and its workers say to each other, over a pair of sockets that only they have.

When either end is gone, the other reads the end of the stream: that is how each learns of it.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any, Generic, TypeVar

import msgspec

from yuanlian.kit.observe.snapshot import Snapshot

LONGEST = 64 * 1024 * 1024
_HEAD = 4


class Begin(msgspec.Struct, tag=True, frozen=True):
    """The first message. ``sockets``: descriptors of all listening sockets, ``own``: the index of the one
    to accept from. ``limits``, ``limits_key``: descriptor and key of the rate limits that all share."""

    settings: dict[str, Any]
    sockets: list[int]
    own: int
    limits: int
    limits_key: bytes


class Adopt(msgspec.Struct, tag=True, frozen=True):
    """Accept from that socket, too: its worker is gone."""

    index: int


class Release(msgspec.Struct, tag=True, frozen=True):
    """Its worker is back."""

    index: int


class Reload(msgspec.Struct, tag=True, frozen=True):
    pass


class AskMetrics(msgspec.Struct, tag=True, frozen=True):
    pass


class AskHealth(msgspec.Struct, tag=True, frozen=True):
    pass


Order = Begin | Adopt | Release | Reload | AskMetrics | AskHealth


class Ready(msgspec.Struct, tag=True, frozen=True):
    """It accepts connections."""


class Leaving(msgspec.Struct, tag=True, frozen=True):
    """It accepts no more, and ends when it is drained."""


class MetricsAnswer(msgspec.Struct, tag=True, frozen=True):
    snapshot: Snapshot


class HealthAnswer(msgspec.Struct, tag=True, frozen=True):
    """``health``: the specification's ``HealthStatus``."""

    health: dict[str, Any]


Report = Ready | Leaving | MetricsAnswer | HealthAnswer

Sent = TypeVar("Sent")
Received = TypeVar("Received")


class Channel(Generic[Sent, Received]):
    """One end. ``receives``: the union of what the other end may say."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, receives: Any) -> None:
        self._reader = reader
        self._writer = writer
        self._decoder = msgspec.msgpack.Decoder(receives)
        self._encoder = msgspec.msgpack.Encoder()

    @classmethod
    async def over(cls, connected: socket.socket, receives: Any) -> Channel[Sent, Received]:
        """Takes the socket over."""
        connected.setblocking(False)
        reader, writer = await asyncio.open_unix_connection(sock=connected)
        return cls(reader, writer, receives)

    def send(self, message: Sent) -> None:
        """To one who is gone, nothing."""
        if not self._writer.is_closing():
            body = self._encoder.encode(message)
            self._writer.write(len(body).to_bytes(_HEAD, "big") + body)

    async def receive(self) -> Received | None:
        """The next message; None when the other end is gone.

        Raises:
            ValueError: it speaks another language.
        """
        try:
            length = int.from_bytes(await self._reader.readexactly(_HEAD), "big")
            if length > LONGEST:
                raise ValueError(f"a message of {length} bytes")
            body = await self._reader.readexactly(length)
        except (asyncio.IncompleteReadError, OSError):
            return None
        message: Received = self._decoder.decode(body)
        return message

    async def flush(self) -> None:
        """Waits until everything is on its way."""
        try:
            await self._writer.drain()
        except OSError:
            return  # the other end is gone, and everything with it

    def close(self) -> None:
        self._writer.close()
