"""Publishing to RabbitMQ: many at once, and done when the broker says it has them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from itertools import takewhile
from typing import NamedTuple

import structlog
from pamqp.header import ContentHeader

from yuanlian.kit.messaging import rabbitmq_topology as topology
from yuanlian.kit.messaging import rabbitmq_wire as wire
from yuanlian.kit.messaging.bus import BusError, BusUnavailableError
from yuanlian.kit.messaging.rabbitmq_channel import CONNECT_S, SET_UP_S, Lane, Link, asked

CONFIRM_S = 30.0

_log = structlog.get_logger("bus")


class Parcel(NamedTuple):
    """``properties``: as ``wire.properties`` makes them. ``wanted``: that no queue takes it is an error."""

    exchange: str
    routing_key: str
    message_id: str
    properties: bytes
    body: bytes
    wanted: bool = True


class _Sending:
    """What one ``publish`` waits for."""

    __slots__ = ("done", "error", "left")

    def __init__(self, count: int) -> None:
        self.left = count
        self.error: BusError | None = None
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # Whoever waits for it may have been told already, by a lost connection.
        self.done.add_done_callback(lambda done: done.cancelled() or done.exception())

    def settle(self) -> None:
        self.left -= 1
        if self.left == 0 and not self.done.done():
            if self.error is None:
                self.done.set_result(None)
            else:
                self.done.set_exception(self.error)


class _Confirms:
    """The messages on one channel of which the broker has not spoken yet."""

    def __init__(self, lane: Lane, body_max: int) -> None:
        self.lane = lane
        self._body_max = body_max
        self._tag = 0
        self._open: dict[int, tuple[_Sending, Parcel]] = {}
        lane.on_settled = self._settled
        lane.on_message = self._returned
        lane.on_closed = self._closed

    def send(self, parcels: Sequence[Parcel]) -> _Sending:
        sending = _Sending(len(parcels))
        number, frames = self.lane.number, []
        for parcel in parcels:
            self._tag += 1
            self._open[self._tag] = sending, parcel
            frames.append(wire.publish_frame(number, parcel.exchange, parcel.routing_key))
            frames += wire.content_frames(number, parcel.properties, parcel.body, self._body_max)
        self.lane.write(b"".join(frames))
        return sending

    def _settled(self, kind: int, tag: int, multiple: bool) -> None:
        tags = list(takewhile(lambda other: other <= tag, self._open)) if multiple else (tag,)
        for one in tags:
            if (known := self._open.pop(one, None)) is None:
                continue
            sending, parcel = known
            if kind == wire.NACK:
                sending.error = BusUnavailableError(f"RabbitMQ could not keep message {parcel.message_id}")
            sending.settle()

    def _returned(self, _: int, arguments: bytes, header: bytes, __: bytes) -> None:
        """No queue took it; the broker's confirmation follows. The same message may be on its way to the
        dead letters of two queues."""
        content = ContentHeader()
        content.unmarshal(header)
        returned = (*wire.returned_from(arguments), content.properties.message_id)
        for sending, parcel in self._open.values():
            if (parcel.exchange, parcel.routing_key, parcel.message_id) != returned:
                continue
            if parcel.wanted:
                sending.error = UnroutedError(f"no queue takes {parcel.routing_key} ({parcel.message_id})")
            else:
                _log.debug("no queue for message", type=parcel.routing_key, message_id=parcel.message_id)
                return

    def _closed(self) -> None:
        unanswered, self._open = self._open, {}
        for sending, _ in unanswered.values():
            sending.error = BusUnavailableError("RabbitMQ was lost before it confirmed")
            sending.settle()


class UnroutedError(BusError):
    """A queue or binding that was declared is gone."""


class Publisher:
    """Connects when there is something to publish, and anew when the connection has been lost."""

    def __init__(self, url: str, name: str, second_ms: int, *, confirm_s: float = CONFIRM_S) -> None:
        self._url = url
        self._name = name
        self._second_ms = second_ms
        self._confirm_s = confirm_s
        self.bindings: dict[str, tuple[str, ...]] = {}
        self._link: Link | None = None
        self._confirms: _Confirms | None = None
        self._order = asyncio.Lock()

    async def publish(self, parcels: Sequence[Parcel]) -> None:
        """Returns when the broker has confirmed every one. In the order of the calls.

        Raises:
            BusError: it has not of at least one; any of them may be there all the same.
        """
        if not parcels:
            return
        async with self._order:
            confirms = await self._connected()
            sending = confirms.send(parcels)
            await self._in_time(confirms.lane.drain())
        try:
            await self._in_time(sending.done)
        except UnroutedError:
            self.drop()  # the next connection declares everything again
            raise

    async def ping(self) -> None:
        """Raises:
        BusError: there is no broker, it does not answer, or does not let us do our work.
        """
        async with self._order:
            await self._connected()
            link = self._link
        assert link is not None
        try:
            async with asyncio.timeout(CONNECT_S):
                channel = await link.channel()
                await asked(channel.close())
        except TimeoutError:
            raise BusUnavailableError(f"RabbitMQ does not answer in {CONNECT_S:.0f} s") from None

    async def close(self) -> None:
        async with self._order:
            link, self._link, self._confirms = self._link, None, None
            if link is not None:
                await link.close()

    async def _connected(self) -> _Confirms:
        if self._confirms is not None and not self._confirms.lane.gone():
            return self._confirms
        if self._link is not None:
            self._link.drop()
        link = await Link.open(self._url, self._name)
        try:
            async with asyncio.timeout(SET_UP_S):
                await topology.declare(link, self.bindings, self._second_ms)
                self._confirms = _Confirms(await link.lane(confirms=True), link.body_max)
        except TimeoutError:
            link.drop()
            raise BusUnavailableError("RabbitMQ was too slow to set up") from None
        except BaseException:
            link.drop()
            raise
        self._link = link
        return self._confirms

    async def _in_time(self, waiting: Awaitable[None]) -> None:
        try:
            async with asyncio.timeout(self._confirm_s):
                await waiting
        except TimeoutError:
            # What it may say later can no longer be told from what it says of a second attempt.
            self.drop()
            raise BusUnavailableError(f"RabbitMQ did not confirm within {self._confirm_s:.0f} s") from None

    def drop(self) -> None:
        """Cuts the connection; what waits for it fails."""
        if self._link is not None:
            self._link.drop()
