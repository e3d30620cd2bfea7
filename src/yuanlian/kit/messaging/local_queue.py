"""One durable queue of ``LocalBus`` and the task that empties it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import msgspec
import structlog

from yuanlian.kit.clock import Clock
from yuanlian.kit.database.database import Database
from yuanlian.kit.messaging import repository
from yuanlian.kit.messaging.bus import Subscription
from yuanlian.kit.messaging.delivery import Dead, Delivery, Done, Outcome, Retry, deliver, reason
from yuanlian.kit.messaging.repository import Buried, Finished, Postponed, StoredDelivery
from yuanlian.kit.messaging.waiting import pause_after, set_within

READY_LIMIT = 1024
"""Deliveries held in memory per queue; more wait in the table."""

_log = structlog.get_logger("bus")


@dataclass(slots=True)
class Settlement:
    """What to do with the rows of one batch, all in one transaction."""

    queue: str
    finished: list[Finished] = field(default_factory=list)
    postponed: list[Postponed] = field(default_factory=list)
    buried: list[Buried] = field(default_factory=list)

    def add(self, delivery: Delivery, outcome: Outcome, now_ms: int) -> None:
        match outcome:
            case Done():
                self.finished.append(Finished(self.queue, delivery.tag))
            case Retry(after_ms, why):
                self.postponed.append(Postponed(self.queue, delivery.tag, now_ms + after_ms, why))
            case Dead(why):
                self.buried.append(Buried(self.queue, delivery.tag, why))


class LocalQueue:
    """The rows of the table are the queue; ``_ready`` is the part of it that memory holds.

    While everything fits, published messages are offered here directly and never read back. The
    table is read when memory is empty and the table may hold more: after a start, after more came
    than fits, when a retry is due, after an error. Reading only then, with every earlier row
    settled, is what keeps a delivery from being in memory twice; and what a reading has seen is not
    taken again when its publisher, told of the commit a moment later, offers it (``_seen``).
    """

    def __init__(
        self,
        subscription: Subscription,
        database: Database,
        clock: Clock,
        settle: Callable[[Settlement], Awaitable[None]],
        poll: float,
    ) -> None:
        self.name = subscription.queue
        self._handler = subscription.handler
        self._batch = subscription.batch
        self._database = database
        self._clock = clock
        self._settle = settle
        self._poll = poll
        self._ready: deque[Delivery] = deque()
        self._behind = True
        self._reading = False
        self._seen = 0
        self._next_due: int | None = None
        self._wake = asyncio.Event()
        self._stopped = asyncio.Event()

    def offer(self, deliveries: Sequence[Delivery]) -> None:
        """Takes deliveries whose rows were committed together, in the order of their commits."""
        if deliveries[0].tag <= self._seen:
            return
        if self._behind or self._reading or len(self._ready) + len(deliveries) > READY_LIMIT:
            self._behind = True
        else:
            self._ready.extend(deliveries)
        self._wake.set()

    def stop(self) -> None:
        self._stopped.set()
        self._wake.set()

    async def run(self) -> None:
        self._stopped.clear()
        self._behind = True
        self._ready.clear()
        failures = 0
        while not self._stopped.is_set():
            try:
                await self._step()
                failures = 0
            except Exception:  # noqa: BLE001 - whatever it was, the rows are still there: read again
                failures += 1
                _log.exception("queue stands still", queue=self.name, retry_in_s=pause_after(failures))
                self._behind = True
                await set_within(self._stopped, pause_after(failures))

    async def _step(self) -> None:
        if self._retry_is_due():
            # Takes no more offers: memory runs empty and the table is read.
            self._behind = True
        if not self._ready and not self._behind:
            await self._idle()
            if self._stopped.is_set():
                return
        if not self._ready and self._behind:
            await self._read()
        if self._ready:
            await self._deliver([self._ready.popleft() for _ in range(min(len(self._ready), self._batch))])

    async def _deliver(self, batch: Sequence[Delivery]) -> None:
        outcomes = await deliver(self.name, self._handler, batch)
        now = self._clock.now_ms()
        settlement = Settlement(self.name)
        for delivery, outcome in zip(batch, outcomes, strict=True):
            settlement.add(delivery, outcome, now)
        for postponed in settlement.postponed:
            self._next_due = min(self._next_due or postponed.due_at, postponed.due_at)
        await self._settle(settlement)

    async def _read(self) -> None:
        self._behind, self._reading = False, True
        now = self._clock.now_ms()
        try:
            due = await self._database.read(
                lambda session: repository.due_deliveries(session, self.name, now, READY_LIMIT)
            )
        finally:
            self._reading = False
        self._next_due = due.next_due
        self._seen = max(self._seen, due.last)
        if len(due.rows) == READY_LIMIT:
            self._behind = True
        await self._take(due.rows)

    async def _take(self, rows: Sequence[StoredDelivery]) -> None:
        malformed = Settlement(self.name)
        for row in rows:
            try:
                self._ready.append(Delivery(row.sequence, repository.decode(row.body), row.attempt))
            except msgspec.DecodeError as error:
                malformed.buried.append(Buried(self.name, row.sequence, reason(error)))
        if malformed.buried:
            await self._settle(malformed)

    def _retry_is_due(self) -> bool:
        return self._next_due is not None and self._next_due <= self._clock.now_ms()

    async def _idle(self) -> None:
        seconds = self._poll
        if self._next_due is not None:
            seconds = min(seconds, max(self._next_due - self._clock.now_ms(), 1) / 1000)
        self._wake.clear()
        if not await set_within(self._wake, seconds):
            self._behind = True
