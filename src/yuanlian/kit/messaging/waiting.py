"""Waiting that a signal can cut short."""

from __future__ import annotations

import asyncio


class Signal:
    """An event that one task at a time waits for, for so long at most.

    ``asyncio.wait_for`` on an ``asyncio.Event`` makes a task for every wait; the loops that empty a
    queue wait thousands of times a second, and this costs them a timer.
    """

    def __init__(self) -> None:
        self._set = False
        self._waiter: asyncio.Future[bool] | None = None

    def is_set(self) -> bool:
        return self._set

    def set(self) -> None:
        """Call in the loop's thread."""
        self._set = True
        if self._waiter is not None:
            _end(self._waiter, True)

    def clear(self) -> None:
        self._set = False

    async def within(self, seconds: float) -> bool:
        """True as soon as it is set, False when it was not within ``seconds``."""
        if self._set:
            return True
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[bool] = loop.create_future()
        self._waiter = waiter
        timer = loop.call_later(seconds, _end, waiter, False)
        try:
            return await waiter
        finally:
            timer.cancel()
            self._waiter = None


def _end(waiter: asyncio.Future[bool], is_set: bool) -> None:
    if not waiter.done():
        waiter.set_result(is_set)
