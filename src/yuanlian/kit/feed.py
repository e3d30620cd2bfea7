"""Changes in order, for those in other processes who must hear of them soon: a journal with a cursor.

A reader asks again and again with the cursor it was given, and is answered at once when there is news
(long polling). Nothing is lost in between: a reader that was away too long, or that knows an earlier
life of this process, is told everything instead.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Generic, TypeVar

import msgspec

T = TypeVar("T")

KEPT = 10_000
WAIT_S = 2.0
"""How long a question waits for news: a service that stops waits for those who ask it, too."""


class Changes(msgspec.Struct, Generic[T], frozen=True):
    """``items``: oldest first; when ``complete``, all that is still in force, whatever the reader knew.
    ``cursor``: for the next question."""

    cursor: str
    complete: bool
    items: tuple[T, ...] = ()


class Feed(Generic[T]):
    """``everything``: what a reader needs to know who knows nothing. Belongs to one event loop."""

    def __init__(self, everything: Callable[[], Awaitable[Sequence[T]]], kept: int = KEPT) -> None:
        self._everything = everything
        self._life = secrets.token_hex(4)
        self._items: deque[T] = deque(maxlen=kept)
        self._count = 0
        self._news: asyncio.Future[None] | None = None

    def extend(self, items: Iterable[T]) -> None:
        """Call after the commit of what ``items`` report."""
        before = self._count
        for item in items:
            self._items.append(item)
            self._count += 1
        if self._news is not None and self._count > before:
            self._news.set_result(None)
            self._news = None

    async def after(self, cursor: str, wait_s: float) -> Changes[T]:
        """What came after ``cursor`` (``""`` for a newcomer); waits up to ``wait_s`` seconds for news."""
        seen = self._seen(cursor)
        if seen == self._count:
            await self._wait(wait_s)
        if seen is None or self._count - seen > len(self._items):
            # The cursor is of before the question: what is appended meanwhile is told twice, not never.
            now = self._cursor()
            return Changes(now, complete=True, items=tuple(await self._everything()))
        missed = self._count - seen
        return Changes(self._cursor(), complete=False, items=tuple(self._items)[len(self._items) - missed :])

    async def _wait(self, wait_s: float) -> None:
        if self._news is None:
            self._news = asyncio.get_running_loop().create_future()
        await asyncio.wait([self._news], timeout=wait_s)

    def _cursor(self) -> str:
        return f"{self._life}-{self._count}"

    def _seen(self, cursor: str) -> int | None:
        life, _, number = cursor.partition("-")
        if life != self._life or not (number.isascii() and number.isdigit() and len(number) < 19):
            return None
        return min(int(number), self._count)
