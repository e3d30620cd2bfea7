"""What those in other processes must hear of soon: changes after a cursor.

A reader asks again and again with the cursor it was given, and is answered at once when there is news
(long polling). Cursors are the database's, not a process's: any instance can answer any reader (decision
0018). Nothing is lost in between: a reader whose cursor says nothing is told everything instead.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

import msgspec

T = TypeVar("T")
Asked = TypeVar("Asked", bound=Hashable)

LOOK_S = 0.4
"""How often the database is read while anybody waits: what another instance changed is told within it."""

WAIT_S = 2.0
"""How long a question waits for news: a service that stops waits for those who ask it, too."""


class Changes(msgspec.Struct, Generic[T], frozen=True):
    """``items``: oldest first; when ``complete``, all that is still in force, whatever the reader knew.
    ``cursor``: for the next question."""

    cursor: str
    complete: bool
    items: tuple[T, ...] = ()


class SharedReadings(Generic[Asked, T]):
    """``read`` for all who ask: they look at the same moments and share what is read, one reading at a time;
    while nobody asks nothing is read. Belongs to one event loop. ``news``: set by the next ``look``."""

    def __init__(self, read: Callable[[Asked], Awaitable[T]]) -> None:
        self._read = read
        self._asked: dict[Asked, asyncio.Task[T]] = {}
        """Readings that have not begun, by what is asked for."""
        self._turn = asyncio.Lock()
        self.news = asyncio.Event()

    def look(self) -> None:
        """Call after the commit of a change: whoever waits looks now."""
        self.news.set()
        self.news = asyncio.Event()

    async def of(self, asked: Asked) -> T:
        """Whoever asks before a reading begins shares it: none is answered by one that began before the
        question, or would miss what was stored between. Raises what ``read`` does."""
        task = self._asked.get(asked)
        if task is None:
            task = self._asked[asked] = asyncio.create_task(self._read_in_turn(asked))
            task.add_done_callback(_heard)
        return await asyncio.shield(task)  # one who hangs up takes it from nobody

    async def until_next_look(self, news: asyncio.Event) -> None:
        """``news``: as it was before what is known was read."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(next_look()):
                await news.wait()

    async def _read_in_turn(self, asked: Asked) -> T:
        async with self._turn:
            del self._asked[asked]
            return await self._read(asked)


def next_look() -> float:
    """A time of the event loop, the same for all who wait."""
    return (asyncio.get_running_loop().time() // LOOK_S + 1) * LOOK_S


def _heard(task: asyncio.Task[T]) -> None:
    if not task.cancelled():
        task.exception()  # it is told to whoever waits; when all have left, to nobody
