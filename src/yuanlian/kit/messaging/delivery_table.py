"""The rows of ``LocalBus``, as its queues use them."""

from __future__ import annotations

from collections.abc import Sequence

from yuanlian.kit.clock import Clock
from yuanlian.kit.database.batching import Batcher
from yuanlian.kit.database.database import Database
from yuanlian.kit.messaging import repository
from yuanlian.kit.messaging.repository import DueDeliveries
from yuanlian.kit.messaging.settlement import NewDelivery, Settlement


class DeliveryTable:
    """Gives numbers upwards, and none twice, also after its row is gone: a queue tells by the number
    whether it has read a row already."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._last = 0
        self._settlements = Batcher(self._settle)

    async def store(self, new: Sequence[NewDelivery]) -> int:
        """Returns the number of the first; the others follow without a gap."""
        first = await self._database.write(
            lambda session: repository.insert_deliveries(session, new, self._last)
        )
        self._given(first + len(new) - 1)
        return first

    async def settle(self, settlement: Settlement) -> None:
        await self._settlements.submit(settlement)

    async def due(self, queue: str, limit: int) -> DueDeliveries:
        now = self._clock.now_ms()
        due = await self._database.read(lambda session: repository.due_deliveries(session, queue, now, limit))
        self._given(due.last)
        return due

    def _given(self, number: int) -> None:
        self._last = max(self._last, number)

    async def _settle(self, settlements: Sequence[Settlement]) -> Sequence[Exception | None]:
        """The settlements of queues that finish at the same time share their statements."""
        whole = Settlement()
        for one in settlements:
            whole.extend(one)
        now = self._clock.now_ms()
        first = await self._database.write(
            lambda session: repository.settle_deliveries(session, whole, self._last, now)
        )
        self._given(first + len(whole.retried) - 1)
        return [None] * len(settlements)
