"""The bus of the embedded platform: durable queues in the same database."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog

from yuanlian.kit.clock import Clock
from yuanlian.kit.database.batching import Batcher
from yuanlian.kit.database.database import Database
from yuanlian.kit.messaging import repository
from yuanlian.kit.messaging.bus import Subscription
from yuanlian.kit.messaging.delivery import Delivery
from yuanlian.kit.messaging.local_queue import LocalQueue, Settlement
from yuanlian.kit.messaging.message import Message

POLL = 1.0

_log = structlog.get_logger("bus")


class LocalBus:
    """A ``Bus`` for one process: one row per queue and message in ``bus_deliveries``,
    its body once in ``bus_messages``.

    A published message goes on to its handlers from memory; its rows are read back only after a
    restart, for a retry, or when a queue holds more than memory should. ``poll``: seconds after
    which an idle queue looks for rows that another process put there (a replay).
    """

    def __init__(self, database: Database, clock: Clock, *, poll: float = POLL) -> None:
        self._database = database
        self._clock = clock
        self._poll = poll
        self._queues: dict[str, LocalQueue] = {}
        self._routes: dict[str, list[str]] = {}
        self._last = 0
        self._settlements = Batcher(self._store_settlements)
        self._tasks: list[asyncio.Task[None]] = []

    def subscribe(self, subscription: Subscription) -> None:
        if subscription.queue in self._queues:
            raise ValueError(f"queue {subscription.queue} has its handler already")
        self._queues[subscription.queue] = LocalQueue(
            subscription, self._database, self._clock, self._settlements.submit, self._poll
        )
        for type_ in subscription.types:
            self._routes.setdefault(type_, []).append(subscription.queue)

    async def publish(self, messages: Sequence[Message]) -> None:
        routed: list[tuple[Message, Sequence[str]]] = []
        for message in messages:
            queues = self._routes.get(message.type)
            if queues is None:
                _log.debug("no queue for message", type=message.type, message_id=message.id)
            else:
                routed.append((message, queues))
        await self._enqueue(routed)

    async def requeue(self, queue: str, messages: Sequence[Message]) -> None:
        await self._enqueue([(message, (queue,)) for message in messages])

    async def start(self) -> None:
        self._tasks = [
            asyncio.create_task(queue.run(), name=f"queue {queue.name}") for queue in self._queues.values()
        ]

    async def stop(self) -> None:
        for queue in self._queues.values():
            queue.stop()
        await asyncio.gather(*self._tasks)
        self._tasks = []

    async def _enqueue(self, routed: Sequence[tuple[Message, Sequence[str]]]) -> None:
        if not routed:
            return
        now = self._clock.now_ms()
        first = await self._database.write(
            lambda session: repository.insert_deliveries(session, routed, self._last, now)
        )
        # A number is never given twice, also after its rows are gone.
        self._last = first + len(routed) - 1
        offers: dict[str, list[Delivery]] = {}
        for sequence, (message, queues) in enumerate(routed, first):
            delivery = Delivery(sequence, message)
            for queue in queues:
                offers.setdefault(queue, []).append(delivery)
        for name, deliveries in offers.items():
            if name in self._queues:
                self._queues[name].offer(deliveries)

    async def _store_settlements(self, settlements: Sequence[Settlement]) -> Sequence[Exception | None]:
        """The settlements of queues that finish at the same time share their statements."""
        finished = [one for s in settlements for one in s.finished]
        postponed = [one for s in settlements for one in s.postponed]
        buried = [one for s in settlements for one in s.buried]
        now = self._clock.now_ms()
        await self._database.write(
            lambda session: repository.settle_deliveries(session, finished, postponed, buried, now)
        )
        return [None] * len(settlements)
