"""A connection to RabbitMQ by aiormq, whose messages take a short way past it."""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import aiormq
from aiormq.abc import AbstractChannel, AbstractConnection
from aiormq.connection import DEFAULT_PORTS, TransportFactory
from aiormq.exceptions import (
    AMQPError,
    ChannelAccessRefused,
    ChannelPreconditionFailed,
    InvalidFrameError,
    ProbableAuthenticationError,
)
from yarl import URL

from yuanlian.kit.messaging import rabbitmq_wire as wire
from yuanlian.kit.messaging.bus import BusError, BusUnavailableError
from yuanlian.kit.resilience.keeping import is_to_end

OLDEST = "3.10"
CONNECT_S = 5.0
SET_UP_S = 20.0
"""Until a new connection has declared everything; the very first time, RabbitMQ makes all queues."""
HEARTBEAT_S = 10
"""A broker of which nothing is heard for about three times this long is taken for lost."""
_HEARD_S = 1.0

_REFUSALS = (ChannelPreconditionFailed, ChannelAccessRefused, ProbableAuthenticationError, InvalidFrameError)
T = TypeVar("T")

OnMessage = Callable[[int, bytes, bytes, bytes], None]
"""Method (``wire.DELIVER`` or ``wire.RETURN``), its arguments, the payload of the header frame, the body."""
OnSettled = Callable[[int, int, bool], None]
"""``wire.ACK`` or ``wire.NACK``, delivery tag, multiple: the broker's word on what was published."""


class Lane:
    """The messages of one channel.

    Once it is ``gone()``, and its channel or connection with it, whatever is written is lost, and the
    tags of its deliveries mean nothing any more.
    """

    def __init__(self, link: Link, channel: AbstractChannel) -> None:
        self.number = channel.number
        self._gone = False
        self.on_message: OnMessage | None = None
        self.on_settled: OnSettled | None = None
        self.on_closed: Callable[[], None] | None = None
        self.channel = channel
        self._link = link
        self._method = 0
        self._arguments = b""
        self._header = b""
        self._parts: list[bytes] = []
        self._missing = 0

    def write(self, frames: bytes) -> None:
        """Frames of whole messages only: nothing else on this channel may come between."""
        self._link.write(frames)

    async def drain(self) -> None:
        await self._link.drain()

    def method(self, index: int, arguments: bytes) -> None:
        if index in (wire.ACK, wire.NACK):
            if self.on_settled is not None:
                self.on_settled(index, *wire.settled(arguments))
        else:
            self._method, self._arguments = index, arguments

    def header(self, payload: bytes) -> None:
        self._header, self._parts = payload, []
        self._missing = wire.body_size(payload)
        if not self._missing:
            self._whole()

    def body(self, payload: bytes) -> None:
        self._parts.append(payload)
        self._missing -= len(payload)
        if self._missing <= 0:
            self._whole()

    def gone(self) -> bool:
        return self._gone

    def close(self) -> None:
        if not self._gone:
            self._gone = True
            if self.on_closed is not None:
                self.on_closed()

    def _whole(self) -> None:
        body = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._parts = []
        if self.on_message is not None and not self._gone:
            self.on_message(self._method, self._arguments, self._header, body)


_LANE_METHODS = frozenset((wire.RETURN, wire.DELIVER, wire.ACK, wire.NACK))


class _Splitter(asyncio.StreamReaderProtocol):
    """Takes the frames of lanes out of the stream; the others go on to aiormq's reader."""

    def __init__(self, reader: asyncio.StreamReader, lanes: dict[int, Lane]) -> None:
        self._events = asyncio.get_running_loop()
        super().__init__(reader, loop=self._events)
        self._lanes = lanes
        self._rest = b""
        self._heard_at = 0.0

    def data_received(self, data: bytes) -> None:
        if self._rest:
            data = self._rest + data
        position, others, taken = 0, 0, False
        length, unpack, lanes = len(data), wire.FRAME.unpack_from, self._lanes
        while length - position >= wire.FRAME_OVERHEAD:
            kind, number, size = unpack(data, position)
            end = position + size + wire.FRAME_OVERHEAD
            if end > length:
                break
            lane = lanes.get(number)
            if lane is not None and self._take(lane, kind, data[position + 7 : end - 1]):
                if others < position:
                    super().data_received(data[others:position])
                others, taken = end, True
            position = end
        if others < position:
            super().data_received(data[others:position])
        self._rest = data[position:]
        if taken:
            self._tell_alive()

    def connection_lost(self, exc: Exception | None) -> None:
        """Known here at once; aiormq has its tasks to end first."""
        for lane in list(self._lanes.values()):
            lane.close()
        super().connection_lost(exc)

    def _take(self, lane: Lane, kind: int, payload: bytes) -> bool:
        if kind == wire.METHOD:
            index = int.from_bytes(payload[:4], "big")
            if index not in _LANE_METHODS:
                return False
            lane.method(index, payload[4:])
        elif kind == wire.HEADER:
            lane.header(payload)
        elif kind == wire.BODY:
            lane.body(payload)
        else:
            return False
        return True

    def _tell_alive(self) -> None:
        """aiormq gives up a connection on which it sees nothing, and it does not see what lanes take."""
        now = self._events.time()
        if now - self._heard_at >= _HEARD_S:
            self._heard_at = now
            super().data_received(wire.HEARTBEAT)


class _Transport(TransportFactory):
    def __init__(self, lanes: dict[int, Lane]) -> None:
        self._lanes = lanes
        self.writer: asyncio.StreamWriter | None = None

    async def create(self, url: URL, **options: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        context: ssl.SSLContext | None = None
        if url.scheme == "amqps":
            context = await options["ssl_context_provider"].get_context()
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(loop=loop)
        protocol = _Splitter(reader, self._lanes)
        transport, _ = await loop.create_connection(
            lambda: protocol, url.host or "", url.port or 0, ssl=context
        )
        self.writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        return reader, self.writer


class Link:
    """One connection. It does not come back by itself: who has it makes a new one.

    aio-pika's robust connections restore what they remember by weak references, keep ``publish``
    waiting for as long as the broker is away, and have left consumers behind more than once; here
    there is one place that builds everything anew (decision record 0013).
    """

    def __init__(self, connection: AbstractConnection, transport: _Transport, lanes: dict[int, Lane]) -> None:
        assert transport.writer is not None
        self._connection = connection
        self._writer = transport.writer
        self._lanes = lanes
        self.lost = asyncio.Event()
        connection.closing.add_done_callback(lambda _: self._on_lost())

    @classmethod
    async def open(cls, url: str, name: str) -> Link:
        """Raises:
        BusUnavailableError: nobody answers in 5 s, will not let us in, or is too old. It has not the URL.
        """
        lanes: dict[int, Lane] = {}
        transport = _Transport(lanes)
        where = address(url)
        try:
            async with asyncio.timeout(CONNECT_S):
                connection = await asked(
                    aiormq.connect(
                        _with_heartbeat(url),
                        transport_factory=transport,
                        client_properties={"connection_name": name},
                    )
                )
        except ProbableAuthenticationError:
            raise BusUnavailableError(f"RabbitMQ at {where} refuses the user or the password") from None
        except TimeoutError:
            raise BusUnavailableError(f"RabbitMQ at {where} does not answer in {CONNECT_S:.0f} s") from None
        except InvalidFrameError as error:
            # It closes the connection instead of opening the virtual host; aiormq keeps no more of that.
            raise BusUnavailableError(
                f"RabbitMQ at {where} does not open {URL(url).path or '/'}: there is no such virtual host, "
                "or the user may not use it"
            ) from error
        except BusUnavailableError as error:
            raise BusUnavailableError(f"RabbitMQ at {where} cannot be used: {error}") from error
        link = cls(connection, transport, lanes)
        if _is_too_old(link.version):
            link.drop()
            raise BusUnavailableError(f"{link.version} at {where} is too old, {OLDEST} is the oldest")
        return link

    @property
    def version(self) -> str:
        said: dict[str, Any] = self._connection.server_properties
        return f"{said.get('product', 'a broker')} {said.get('version', 'of no version')}"

    async def channel(self) -> AbstractChannel:
        """One without lane, for declaring and for single messages."""
        return await asked(self._connection.channel(publisher_confirms=False))

    async def lane(self, *, confirms: bool) -> Lane:
        channel = await asked(self._connection.channel(publisher_confirms=confirms))
        lane = Lane(self, channel)
        self._lanes[channel.number] = lane
        channel.closing.add_done_callback(lambda _: self._drop(lane))
        return lane

    @property
    def body_max(self) -> int:
        """Bytes of a message that fit into one frame."""
        frame_max: int = self._connection.connection_tune.frame_max
        return (frame_max or 131072) - wire.FRAME_OVERHEAD

    def write(self, frames: bytes) -> None:
        """On a connection that is lost, or about to be, nothing is written; its lanes are told."""
        try:
            self._writer.write(frames)
        except RuntimeError:
            # aiormq ends its side of a connection that closes (``write_eof``) before it says so to anybody.
            self.drop()

    async def drain(self) -> None:
        """Raises:
        BusUnavailableError: the connection is lost.
        """
        try:
            await self._writer.drain()
        except OSError as error:
            raise BusUnavailableError(f"the connection was lost: {error}") from error

    def drop(self) -> None:
        """At once, as if the network had gone."""
        self._writer.transport.abort()
        self._on_lost()

    async def close(self) -> None:
        """Raises nothing: it is closed, or was lost already."""
        with contextlib.suppress(BusUnavailableError, *_REFUSALS):
            await asked(self._connection.close())
        self._on_lost()

    def _drop(self, lane: Lane) -> None:
        self._lanes.pop(lane.number, None)
        lane.close()

    def _on_lost(self) -> None:
        self.lost.set()
        for lane in list(self._lanes.values()):
            self._drop(lane)


async def asked(answer: Awaitable[T]) -> T:
    """What aiormq answers.

    Raises:
        ChannelPreconditionFailed, ChannelAccessRefused, ProbableAuthenticationError, InvalidFrameError: what
            the broker refuses, for the caller to explain.
        BusUnavailableError: any other error of AMQP or the network; also where aiormq, losing its connection,
            ends whoever waits with a bare ``Exception``, or as if he had been cancelled.
    """
    try:
        return await answer
    except _REFUSALS:
        raise
    except (AMQPError, OSError, RuntimeError) as error:
        raise BusUnavailableError(f"{type(error).__name__}: {error}") from error
    except (Exception, asyncio.CancelledError) as error:
        if is_to_end(error) or type(error) not in (Exception, asyncio.CancelledError):
            raise
        raise BusUnavailableError("the connection was lost") from error


def _is_too_old(version: str) -> bool:
    # Another broker that speaks the protocol counts its versions in its own way.
    number = re.match(r"RabbitMQ (\d+)\.(\d+)", version)
    return number is not None and [*map(int, number.groups())] < [*map(int, OLDEST.split("."))]


def _with_heartbeat(url: str) -> str:
    parsed = URL(url)
    return url if "heartbeat" in parsed.query else str(parsed.update_query(heartbeat=HEARTBEAT_S))


def address(url: str) -> str:
    """Host and port, which may be shown.

    Raises:
        BusError: it is no address of a RabbitMQ.
    """
    try:
        parsed = URL(url)
        default = DEFAULT_PORTS[parsed.scheme]
    except (ValueError, KeyError):
        raise BusError("not an amqp:// or amqps:// address") from None
    if not parsed.host:
        raise BusError("an amqp:// address names a host")
    return f"{parsed.host}:{parsed.port or default}"
