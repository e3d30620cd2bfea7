"""The bus of the embedded platform: from memory to the handlers, and durable queues in the same database."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import structlog

from yuanlian.kit.clock import Clock
from yuanlian.kit.database.database import Database
from yuanlian.kit.messaging.bus import Subscription
from yuanlian.kit.messaging.delivery_table import DeliveryTable
from yuanlian.kit.messaging.hand_over import HandOver
from yuanlian.kit.messaging.local_queue import Copy, LocalQueue
from yuanlian.kit.messaging.message import Message
from yuanlian.kit.messaging.settlement import NewDelivery
from yuanlian.kit.messaging.tally import Tally

POLL = 5.0
PATIENCE = 1.0

_log = structlog.get_logger("bus")


class LocalBus:
    """A ``Bus`` for one process.

    A published message is handed to its queues in memory, and ``publish`` returns when their handlers
    have returned: until then the publisher's own row, in the outbox, is the durable copy, and nothing
    is stored twice. What is not handled at once gets rows of its own, one per queue in
    ``bus_deliveries``, its body in ``bus_messages``, and ``publish`` waits for it no longer: what
    failed and is to be retried, what a handler has not finished within ``patience`` seconds, what
    comes to a queue that is not started, stopping, full, or still behind with its rows.

    ``poll``: seconds after which an idle queue looks for rows that another process put there (a replay).
    """

    def __init__(
        self, database: Database, clock: Clock, *, poll: float = POLL, patience: float = PATIENCE
    ) -> None:
        self._clock = clock
        self._table = DeliveryTable(database, clock)
        self._poll = poll
        self._patience = patience
        self._queues: dict[str, LocalQueue] = {}
        self._routes: dict[str, list[str]] = {}
        self._order = asyncio.Lock()
        self._tasks: list[asyncio.Task[None]] = []

    def subscribe(self, subscription: Subscription) -> None:
        if subscription.queue in self._queues:
            raise ValueError(f"queue {subscription.queue} has its handler already")
        self._queues[subscription.queue] = LocalQueue(
            subscription, self._table, self._clock, poll=self._poll, patience=self._patience
        )
        for type_ in subscription.types:
            self._routes.setdefault(type_, []).append(subscription.queue)

    async def publish(self, messages: Sequence[Message]) -> None:
        handed = HandOver(self._clock.now_ms())
        # While some are stored, later calls wait: handed over at once, they would overtake those.
        async with self._order:
            await self._enqueue(self._hand_over(messages, handed))
        await handed.settled()

    async def requeue(self, queue: str, messages: Sequence[Message]) -> None:
        """Puts messages into this queue only, as if for the first time; returns when durable."""
        now = self._clock.now_ms()
        async with self._order:
            await self._enqueue([NewDelivery(message, (queue,), now) for message in messages])

    def tallies(self) -> Mapping[str, Tally]:
        return {name: queue.tally for name, queue in self._queues.items()}

    async def start(self) -> None:
        for queue in self._queues.values():
            queue.start()
        self._tasks = [
            asyncio.create_task(queue.run(), name=f"queue {queue.name}") for queue in self._queues.values()
        ]

    async def stop(self) -> None:
        for queue in self._queues.values():
            queue.stop()
        await asyncio.gather(*self._tasks)
        self._tasks = []

    def _hand_over(self, messages: Sequence[Message], handed: HandOver) -> list[NewDelivery]:
        """Hands each queue what it takes from memory, and returns what has to be stored."""
        parts: dict[str, list[Message]] = {}
        for message in messages:
            queues = self._routes.get(message.type, ())
            if not queues:
                _log.debug("no queue for message", type=message.type, message_id=message.id)
            for name in queues:
                parts.setdefault(name, []).append(message)
        refusing: set[str] = set()
        for name, part in parts.items():
            if self._queues[name].takes(len(part)):
                self._queues[name].hand_over(part, handed)
            else:
                refusing.add(name)
        return self._to_store(messages, refusing, handed.published_at) if refusing else []

    def _to_store(self, messages: Sequence[Message], queues: set[str], now_ms: int) -> list[NewDelivery]:
        routed = ((m, [name for name in self._routes.get(m.type, ()) if name in queues]) for m in messages)
        return [NewDelivery(message, names, now_ms) for message, names in routed if names]

    async def _enqueue(self, new: Sequence[NewDelivery]) -> None:
        if not new:
            return
        first = await self._table.store(new)
        offers: dict[str, list[Copy]] = {}
        for sequence, delivery in enumerate(new, first):
            for queue in delivery.queues:
                offers.setdefault(queue, []).append(Copy(delivery.message, sequence=sequence))
        for name, copies in offers.items():
            if name in self._queues:
                self._queues[name].offer(copies)
