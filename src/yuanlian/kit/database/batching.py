"""Concurrent requests of one kind become one unit of work with multi-row statements.

``Database.write`` already shares a commit; a ``Batcher`` also shares the statements. While one batch
is being stored, the next one gathers; nobody waits for a timer.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

import structlog

from yuanlian.kit.errors import ServiceUnavailableError

_log = structlog.get_logger("database")

Item = TypeVar("Item")
Result = TypeVar("Result")

Store = Callable[[Sequence[Item]], Awaitable[Sequence[Result | Exception]]]


class Batcher(Generic[Item, Result]):
    """``store`` gets 1 to ``limit`` items and returns one result per item, in order; an ``Exception``
    in a place is that item's alone. When ``store`` itself raises for several items, each is stored
    again by itself, so that one bad item cannot fail the others; not when it is the database that is
    unavailable, for all of them alike."""

    def __init__(self, store: Store[Item, Result], limit: int = 128) -> None:
        self._store = store
        self._limit = limit
        self._waiting: deque[tuple[Item, asyncio.Future[Result]]] = deque()
        self._worker: asyncio.Task[None] | None = None

    async def submit(self, item: Item) -> Result:
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._worker is None:
            self._worker = asyncio.create_task(self._drain())
        return await future

    async def _drain(self) -> None:
        try:
            while self._waiting:
                size = min(len(self._waiting), self._limit)
                batch = [self._waiting.popleft() for _ in range(size)]
                for (_, future), result in zip(batch, await self._results(batch), strict=True):
                    if future.done():
                        continue
                    if isinstance(result, Exception):
                        future.set_exception(result)
                    else:
                        future.set_result(result)
        finally:
            self._worker = None

    async def _results(
        self, batch: list[tuple[Item, asyncio.Future[Result]]]
    ) -> Sequence[Result | Exception]:
        items = [item for item, _ in batch]
        try:
            return await self._store(items)
        except ServiceUnavailableError as error:
            return [error] * len(items)
        except Exception as error:  # noqa: BLE001 - becomes the item's own answer
            if len(items) == 1:
                return [error]
            # A caller hears only of its own item; that whole batches fail is for us to hear.
            _log.warning("batch failed, its items are tried alone", size=len(items), exc_info=error)
        return [await self._alone(item) for item in items]

    async def _alone(self, item: Item) -> Result | Exception:
        try:
            return (await self._store([item]))[0]
        except Exception as error:  # noqa: BLE001 - becomes the item's own answer
            return error
