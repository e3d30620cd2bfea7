"""One queue of RabbitMQ and the task that empties it."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import structlog
from pamqp.header import ContentHeader

from yuanlian.kit.clock import Clock
from yuanlian.kit.errors import DependencyAwayError
from yuanlian.kit.messaging import rabbitmq_wire as wire
from yuanlian.kit.messaging.bus import BusError, Subscription
from yuanlian.kit.messaging.delivery import DONE, Dead, Delivery, Outcome, Retry, deliver, reason
from yuanlian.kit.messaging.message import Message
from yuanlian.kit.messaging.rabbitmq_channel import Lane, Link, asked
from yuanlian.kit.messaging.rabbitmq_parcels import ATTEMPT, dead_letter, retried
from yuanlian.kit.messaging.rabbitmq_publisher import Parcel, Publisher
from yuanlian.kit.messaging.repository import decode
from yuanlian.kit.messaging.tally import Tally
from yuanlian.kit.messaging.waiting import Signal
from yuanlian.kit.resilience.keeping import is_to_end, pause_after

PREFETCH_BATCHES = 4
"""Batches that RabbitMQ may have handed out and not yet heard of: one at hand, the others on their way."""
GATHER = 0.06
"""Seconds for which a consumer rests after a batch, or until the next one is full: an idle one takes a
message at once, a busy one what has gathered, because a transaction of a hundred rows costs little more than
one of ten."""
CANCEL_S = 5.0
QUIET_S = 5.0
"""Within which a broker hands out again what it has got back."""

_log = structlog.get_logger("bus")


class Arrived(NamedTuple):
    """``tag`` means something on ``lane`` only."""

    lane: Lane
    tag: int
    header: bytes
    body: bytes


@dataclass(slots=True, eq=False)
class Incoming(Delivery):
    """A message that could be read."""

    tag: int = 0


@dataclass(slots=True)
class Failed:
    """By delivery tag, what is to be published of the deliveries that failed."""

    retried: dict[int, Parcel] = field(default_factory=dict)
    dead: dict[int, Parcel] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.retried) + len(self.dead)

    def __contains__(self, tag: int) -> bool:
        return tag in self.retried or tag in self.dead


class RabbitMqQueue:
    """What arrives is gathered in memory and handed out in batches; a batch is acknowledged as a whole.

    A failure is first published to where it goes, confirmed, and then acknowledged: at every instant
    the message is in a queue. When the channel has been lost meanwhile nothing is acknowledged; the
    broker hands the batch out again, perhaps to another process.
    """

    def __init__(self, subscription: Subscription, publisher: Publisher, clock: Clock) -> None:
        self.name = subscription.queue
        self.tally = Tally()
        self._handler = subscription.handler
        self._limit = subscription.batch
        self._publisher = publisher
        self._clock = clock
        self._ready: deque[Arrived] = deque()
        self._lane: Lane | None = None
        self._failures = 0
        self._wake = Signal()
        self._full = Signal()
        self._stopped = Signal()

    async def attach(self, link: Link) -> None:
        """Begins to consume on a channel of this connection; what another has brought is forgotten."""
        lane = await link.lane(confirms=False)
        await asked(lane.channel.basic_qos(prefetch_count=self._limit * PREFETCH_BATCHES))
        lane.on_message = lambda _, arguments, header, body: self._arrived(lane, arguments, header, body)
        # The queue was deleted, or its leader lost; a channel that ended ends its connection, too.
        lane.channel.on_consumer_cancel_callbacks.add(lambda _: link.drop())
        lane.on_closed = link.drop
        self._ready.clear()
        self._lane = lane
        await asked(lane.channel.basic_consume(self.name, _never_called, consumer_tag=self.name))

    async def detach(self) -> None:
        """Nothing new arrives. What has, and is not at hand, goes back when the connection is closed."""
        self._stopped.set()
        self._wake.set()
        self._full.set()
        lane = self._lane
        if lane is not None and not lane.gone():
            lane.on_closed = None
            with contextlib.suppress(BusError, TimeoutError):  # gone: then nothing arrives either
                async with asyncio.timeout(CANCEL_S):
                    await asked(lane.channel.basic_cancel(self.name))

    @property
    def consumes(self) -> bool:
        """Whether the broker would hand something out here."""
        return self._lane is not None and not self._lane.gone()

    def start(self) -> None:
        self._stopped.clear()

    async def run(self) -> None:
        """Call after ``start``; returns after ``detach``, when the batch at hand is settled."""
        while not self._stopped.is_set():
            if not self._ready:
                self._wake.clear()
                if not await self._wake.within(QUIET_S) and self.consumes:
                    self.tally.move()  # whatever it stood still with, the broker has given to another
                continue
            size = min(len(self._ready), self._limit)
            batch = [self._ready.popleft() for _ in range(size)]
            try:
                await self._take_or_hold(batch)
            except (Exception, asyncio.CancelledError) as error:  # whatever it was, the queue goes on
                if is_to_end(error):
                    raise
                _log.exception("batch not settled, each is tried alone", queue=self.name, size=len(batch))
                await self._take_apart(batch)
            if self._failures:
                await self._stopped.within(pause_after(self._failures))
            else:
                await self._gather()
        self._ready.clear()
        self._lane = None
        self.tally.move()

    async def _gather(self) -> None:
        self._full.clear()
        if len(self._ready) < self._limit and not self._stopped.is_set():
            await self._full.within(GATHER)

    def _arrived(self, lane: Lane, arguments: bytes, header: bytes, body: bytes) -> None:
        if lane is self._lane:
            self._ready.append(Arrived(lane, wire.delivery_tag(arguments), header, body))
            self._wake.set()
            if len(self._ready) >= self._limit:
                self._full.set()

    async def _take_or_hold(self, batch: Sequence[Arrived]) -> bool:
        """While what the handler needs is away, the batch stays at hand and the broker keeps the rest. A stop
        leaves it to the broker, which also hands out again what a lost channel has brought: then False,
        and nothing that came later on that channel may be settled as if this had been."""
        tries = 0
        while not batch[0].lane.gone():
            if await self._taken(batch):
                return True
            tries += 1
            await self._stopped.within(pause_after(tries))
            if self._stopped.is_set():
                return False
        _log.info("channel lost, its batch comes again", queue=self.name, size=len(batch))
        return False

    async def _taken(self, batch: Sequence[Arrived]) -> bool:
        try:
            await self._take(batch)
        except DependencyAwayError as error:
            self.tally.stall()
            _log.warning("queue waits", queue=self.name, size=len(batch), error=reason(error))
            return False
        return True

    async def _take(self, batch: Sequence[Arrived]) -> None:
        incoming: list[Incoming] = []
        failed = Failed()
        for one in batch:
            try:
                incoming.append(Incoming(decode(one.body), _attempt(one.header), one.tag))
            except Exception as error:  # noqa: BLE001 - nested too deeply, say: what cannot be read is buried
                failed.dead[one.tag] = self._buried(one, reason(error), 1)
        by_tag = {one.tag: one for one in batch}
        if incoming:
            outcomes = await deliver(self.name, self._handler, incoming)
            for delivery, outcome in zip(incoming, outcomes, strict=True):
                if outcome is not DONE:
                    self._sort(by_tag[delivery.tag], delivery, outcome, failed)
        await self._settle(batch, failed)

    async def _take_apart(self, batch: Sequence[Arrived]) -> None:
        """The one at fault goes back to the broker, which buries what it has handed out too often."""
        for one in batch:
            try:
                if not await self._take_or_hold([one]):
                    return
            except (Exception, asyncio.CancelledError) as error:
                if is_to_end(error):
                    raise
                self._failures += 1
                self.tally.stall()
                pause = pause_after(self._failures)
                _log.exception("message not settled", queue=self.name, retry_in_s=pause)
                if not one.lane.gone():
                    one.lane.write(wire.requeue_frame(one.lane.number, one.tag))

    def _sort(self, one: Arrived, delivery: Incoming, outcome: Outcome, failed: Failed) -> None:
        attempts = delivery.attempt + 1
        match outcome:
            case Retry(after_ms, why):
                again = retried(self.name, delivery.message, one.body, attempts, after_ms, why)
                failed.retried[one.tag] = again
            case Dead(why):
                failed.dead[one.tag] = self._buried(one, why, attempts, delivery.message)

    def _buried(self, one: Arrived, why: str, attempts: int, message: Message | None = None) -> Parcel:
        id_ = message.id if message is not None else str(_content(one.header).properties.message_id or "")
        return dead_letter(self.name, message, id_, one.body, why, attempts, self._clock.now_ms())

    async def _settle(self, batch: Sequence[Arrived], failed: Failed) -> None:
        lane = batch[0].lane
        if lane.gone():
            _log.info("channel lost, its batch comes again", queue=self.name, size=len(batch))
            return
        kept = not failed or await self._put_away(failed)
        if lane.gone():
            return
        self.tally.done += len(batch) - len(failed)
        if kept:
            self._failures = 0
            self.tally.retried += len(failed.retried)
            self.tally.dead += len(failed.dead)
            self.tally.move()
            # Every earlier delivery on this channel has been settled by an earlier batch.
            lane.write(wire.ack_frame(lane.number, batch[-1].tag, multiple=True))
        else:
            lane.write(b"".join(_settled_alone(lane.number, one.tag, one.tag not in failed) for one in batch))

    async def _put_away(self, failed: Failed) -> bool:
        """Where they go: then they may be acknowledged."""
        try:
            await self._publisher.publish([*failed.retried.values(), *failed.dead.values()])
        except BusError as error:
            self._failures += 1
            self.tally.stall()
            _log.warning(
                "failures not put away, they come again",
                queue=self.name,
                size=len(failed),
                error=reason(error),
                retry_in_s=pause_after(self._failures),
            )
            return False
        return True


def _settled_alone(channel: int, tag: int, done: bool) -> bytes:
    return wire.ack_frame(channel, tag, multiple=False) if done else wire.requeue_frame(channel, tag)


def _attempt(header: bytes) -> int:
    """Failed deliveries before this one: nearly always none, which is told without reading the headers."""
    if ATTEMPT.encode() not in header:
        return 0
    headers = _content(header).properties.headers or {}
    try:
        return max(int(str(headers.get(ATTEMPT, 0))), 0)
    except ValueError:
        return 0


def _content(header: bytes) -> ContentHeader:
    content = ContentHeader()
    content.unmarshal(header)
    return content


async def _never_called(_: object) -> None:
    """aiormq wants one; deliveries do not come to it."""
