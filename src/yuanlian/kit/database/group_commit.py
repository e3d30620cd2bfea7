"""Group commit on one event loop: works that arrive while others are being committed share the next
transaction, and a few transactions are under way at once, so that the disk's time for one is the
processor's for the next."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

from yuanlian.kit.database.work import Work

Commit = Callable[[Sequence[Work]], Awaitable[None]]


class GroupCommit:
    """``commit`` leaves in every work its result or its error, and does not raise."""

    def __init__(self, commit: Commit, parallel: int, limit: int) -> None:
        self._commit = commit
        self._limit = limit
        self._waiting: deque[Work] = deque()
        self._workers: set[asyncio.Task[None]] = set()
        self._free = parallel

    def submit(self, work: Work) -> None:
        self._waiting.append(work)
        if self._free:
            self._free -= 1
            # It begins with the loop's next round; what is submitted in this one goes along.
            worker = asyncio.create_task(self._drain(), name="group commit")
            self._workers.add(worker)
            worker.add_done_callback(self._workers.discard)

    async def finish(self) -> None:
        """When everything that was submitted has its answer."""
        while self._workers:
            await asyncio.wait(self._workers)

    async def _drain(self) -> None:
        try:
            while self._waiting:
                size = min(len(self._waiting), self._limit)
                await self._store([self._waiting.popleft() for _ in range(size)])
        finally:
            # Here, not when the task is seen to be done: what is submitted in between would wait for ever.
            self._free += 1

    async def _store(self, group: Sequence[Work]) -> None:
        try:
            await self._commit(group)
        except BaseException as error:
            for work in group:
                work.error = work.error or error
            raise
        finally:
            for work in group:
                work.resolve()
