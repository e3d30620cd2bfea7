"""One queue of ``LocalBus`` and the task that empties it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import structlog

from yuanlian.kit.clock import Clock
from yuanlian.kit.errors import DependencyAwayError
from yuanlian.kit.messaging import repository
from yuanlian.kit.messaging.bus import Subscription
from yuanlian.kit.messaging.delivery import DONE, Delivery, deliver, reason
from yuanlian.kit.messaging.delivery_table import DeliveryTable
from yuanlian.kit.messaging.hand_over import HandOver
from yuanlian.kit.messaging.message import Message
from yuanlian.kit.messaging.repository import StoredDelivery
from yuanlian.kit.messaging.settlement import Buried, NewDelivery, Settlement
from yuanlian.kit.messaging.tally import Tally
from yuanlian.kit.messaging.waiting import Signal
from yuanlian.kit.resilience.keeping import pause_after

READY_LIMIT = 1024
"""Deliveries held in memory per queue; more wait in the table."""

_log = structlog.get_logger("bus")


@dataclass(slots=True, eq=False)
class Copy(Delivery):
    """A message in this queue. It has either a row, numbered ``sequence``, or a publisher who waits
    (``handed``); neither when the row could not be written: then it will be published again."""

    sequence: int | None = None
    handed: HandOver | None = None


class LocalQueue:
    """What is handed over goes to the handler from memory; the rows of the table are for the rest.

    Once anything of this queue may lie in the table and not in memory (``_behind``), what comes next
    goes into the table too, behind it, until memory has run empty, the table is read and all of it
    fits. It is read after a start, after more came than fits, after the handler took too long, when
    a retry is due, after an error, and now and then for rows of other processes.

    Reading only when memory is empty and all it held is settled is what keeps a delivery from being
    in memory twice; and what a reading has seen is not taken again when whoever stored it, told of
    the commit a moment later, offers it (``_seen``).
    """

    def __init__(
        self,
        subscription: Subscription,
        table: DeliveryTable,
        clock: Clock,
        *,
        poll: float,
        patience: float,
    ) -> None:
        self.name = subscription.queue
        self.tally = Tally()
        self._handler = subscription.handler
        self._limit = subscription.batch
        self._table = table
        self._clock = clock
        self._poll = poll
        self._patience = patience
        self._ready: deque[Copy] = deque()
        self._batch: Sequence[Copy] = ()
        self._running = False
        self._behind = True
        self._reading = False
        self._seen = 0
        self._next_due: int | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._storing: asyncio.Task[None] | None = None
        self._wake = Signal()
        self._stopped = Signal()

    def takes(self, count: int) -> bool:
        """Whether so many may be handed over now; else they belong in the table."""
        in_memory = len(self._ready) + len(self._batch)
        free = self._running and not self._behind and not self._reading
        return free and in_memory + count <= READY_LIMIT

    def hand_over(self, messages: Sequence[Message], handed: HandOver) -> None:
        """Only when it ``takes`` them; it settles each with ``handed``."""
        handed.take(len(messages))
        self._ready.extend([Copy(message, handed=handed) for message in messages])
        if self._timer is None:
            self._look_again_after(self._patience)
        self._wake.set()

    def offer(self, copies: Sequence[Copy]) -> None:
        """Takes deliveries whose rows were committed together, in the order of their commits."""
        sequence = copies[0].sequence
        if sequence is not None and sequence <= self._seen:
            return
        if self.takes(len(copies)):
            self._ready.extend(copies)
        else:
            self._behind = True
        self._wake.set()

    def start(self) -> None:
        self._stopped.clear()
        self._running = self._behind = True

    def stop(self) -> None:
        self._running = False
        self._stopped.set()
        self._wake.set()

    async def run(self) -> None:
        """Call after ``start``; returns after ``stop``, with nothing left that only memory holds."""
        failures = 0
        while not self._stopped.is_set():
            try:
                await self._step()
                failures = 0
                self.tally.move()
            except DependencyAwayError as error:
                failures += 1
                self.tally.stall()
                self._behind = True
                pause = pause_after(failures)
                _log.warning("queue waits", queue=self.name, error=reason(error), retry_in_s=pause)
                await self._stopped.within(pause)
            except Exception:  # noqa: BLE001 - whatever it was, rows are still there and publishers told
                failures += 1
                self.tally.stall()
                _log.exception("queue stands still", queue=self.name, retry_in_s=pause_after(failures))
                self._behind = True
                await self._stopped.within(pause_after(failures))
        self.tally.move()
        await self._stored()
        await self._store_held()
        self._ready.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def _step(self) -> None:
        if self._retry_is_due():
            # Takes no more: memory runs empty and the table is read.
            self._behind = True
        if not self._ready and not self._behind:
            await self._idle()
            if self._stopped.is_set():
                return
        if not self._ready and self._behind:
            await self._read()
        if self._ready:
            size = min(len(self._ready), self._limit)
            await self._deliver([self._ready.popleft() for _ in range(size)])

    async def _deliver(self, batch: Sequence[Copy]) -> None:
        self._batch = batch
        try:
            outcomes = await deliver(self.name, self._handler, batch)
        except DependencyAwayError:
            # But for those that could not be given a row meanwhile: their publisher does it all again.
            kept = [copy for copy in batch if copy.sequence is not None or copy.handed is not None]
            self._ready.extendleft(reversed(kept))
            raise
        finally:
            self._batch = ()
        await self._stored()
        now = self._clock.now_ms()
        settlement, waiting = Settlement(), []
        for copy, outcome in zip(batch, outcomes, strict=True):
            if copy.sequence is not None:
                settlement.of_row(self.name, copy.sequence, outcome, now)
            elif copy.handed is not None and outcome is DONE:
                copy.handed.settle()
                self.tally.done += 1
            elif copy.handed is not None:
                settlement.of_memory(self.name, copy.message, outcome, now)
                waiting.append(copy.handed)
        if settlement:
            await self._commit(settlement, waiting)

    async def _commit(self, settlement: Settlement, waiting: Sequence[HandOver]) -> None:
        due = settlement.next_due()
        if due is not None:
            self._next_due = min(self._next_due or due, due)
        try:
            await self._table.settle(settlement)
        except Exception as error:
            for handed in waiting:
                handed.fail(error)
            raise
        for handed in waiting:
            handed.settle()
        self.tally.done += len(settlement.finished)
        self.tally.retried += len(settlement.postponed) + len(settlement.retried)
        self.tally.dead += len(settlement.buried) + len(settlement.rejected)

    # -- what the handler does not get to in time ---------------------------------------------------

    def _look_again_after(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, self._look_at_held)

    def _look_at_held(self) -> None:
        """Every ``patience`` seconds at most, not for every delivery: most are long gone by then."""
        self._timer = None
        oldest = next((copy.handed for copy in (*self._batch, *self._ready) if copy.handed is not None), None)
        if oldest is None:
            return
        left = oldest.since + self._patience - asyncio.get_running_loop().time()
        if left > 0:
            self._look_again_after(left)
        elif self._storing is None or self._storing.done():
            self._storing = asyncio.create_task(self._store_held(), name=f"store {self.name}")

    async def _store_held(self) -> None:
        """Gives a row to each delivery that only memory holds; they stay in memory, in their places."""
        held = [(copy, copy.handed) for copy in (*self._batch, *self._ready) if copy.handed is not None]
        if not held:
            return
        self._behind = True
        new = [NewDelivery(copy.message, (self.name,), handed.published_at) for copy, handed in held]
        try:
            first = await self._table.store(new)
        except Exception as error:  # noqa: BLE001 - is the publishers' to hear; they publish again
            self._forget(held, error)
            return
        for sequence, (copy, handed) in enumerate(held, first):
            copy.sequence, copy.handed = sequence, None
            handed.settle()

    def _forget(self, held: Sequence[tuple[Copy, HandOver]], error: Exception) -> None:
        _log.warning("deliveries not stored", queue=self.name, size=len(held), error=reason(error))
        for copy, handed in held:
            copy.handed = None
            handed.fail(error)
        self._ready = deque(copy for copy in self._ready if copy.sequence is not None)

    async def _stored(self) -> None:
        """When a delivery that is being given its row has it, or will not get it."""
        if self._storing is not None:
            await self._storing

    # -- the table ----------------------------------------------------------------------------------

    async def _read(self) -> None:
        self._behind, self._reading = False, True
        try:
            due = await self._table.due(self.name, READY_LIMIT)
        finally:
            self._reading = False
        self._next_due = due.next_due
        self._seen = max(self._seen, due.last)
        if len(due.rows) == READY_LIMIT:
            self._behind = True
        await self._take(due.rows)

    async def _take(self, rows: Sequence[StoredDelivery]) -> None:
        malformed = Settlement()
        for row in rows:
            try:
                self._ready.append(Copy(repository.decode(row.body), row.attempt, row.sequence))
            except msgspec.DecodeError as error:
                malformed.buried.append(Buried(self.name, row.sequence, reason(error)))
        if malformed:
            await self._commit(malformed, ())

    def _retry_is_due(self) -> bool:
        return self._next_due is not None and self._next_due <= self._clock.now_ms()

    async def _idle(self) -> None:
        seconds = self._poll
        if self._next_due is not None:
            seconds = min(seconds, max(self._next_due - self._clock.now_ms(), 1) / 1000)
        self._wake.clear()
        if not await self._wake.within(seconds):
            self._behind = True
