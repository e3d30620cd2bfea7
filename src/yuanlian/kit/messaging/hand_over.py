"""What one ``LocalBus.publish`` waits for."""

from __future__ import annotations

import asyncio


class HandOver:
    """Counts the deliveries of one ``publish`` that memory alone holds: not yet handled, not yet stored.

    ``published_at``: epoch ms. ``since``: the same in the loop's time, seconds.
    """

    __slots__ = ("_error", "_held", "_waiter", "published_at", "since")

    def __init__(self, published_at: int) -> None:
        self.published_at = published_at
        self.since = asyncio.get_running_loop().time()
        self._held = 0
        self._error: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None

    def take(self, count: int) -> None:
        self._held += count

    def settle(self) -> None:
        """One more is handled or stored."""
        self._held -= 1
        if self._held == 0:
            self._end()

    def fail(self, error: Exception) -> None:
        """One could not be stored: the publisher must not forget it."""
        self._error = self._error or error
        self._end()

    async def settled(self) -> None:
        """Returns when none is held any more; raises when one could not be stored."""
        if self._held and self._error is None:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        if self._error is not None:
            raise self._error

    def _end(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
