"""What the queues have given up on: seen by an operator, then replayed or discarded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec
import structlog

from yuanlian.kit.database.database import Database
from yuanlian.kit.messaging import outbox, repository
from yuanlian.kit.messaging.message import Message
from yuanlian.kit.messaging.repository import OUTBOX, DeadLetter

PAGE = 500

_log = structlog.get_logger("bus")


class Requeue(Protocol):
    async def requeue(self, queue: str, messages: Sequence[Message]) -> None:
        """Puts messages into this queue only, as if for the first time; returns when durable."""
        ...


class DeadLetters(Protocol):
    """``id`` of a letter is its number, larger for one that died later in the same place."""

    async def list(
        self, limit: int = 50, cursor: int | None = None, queue: str | None = None
    ) -> tuple[list[DeadLetter], int | None]:
        """Newest first, and the cursor of the next page (None: there is none)."""
        ...

    async def replay(self, ids: Sequence[int]) -> int:
        """Puts these back into the queues they died in, with their whole retry budget.

        Returns how many. One that cannot be read as a message stays. A crash in the middle may
        replay a message twice; its consumers tell by its id.
        """
        ...

    async def replay_queue(self, queue: str) -> int:
        """Replays everything that died in this queue until now, oldest first; returns how many."""
        ...

    async def discard(self, ids: Sequence[int]) -> int: ...


class DatabaseDeadLetters:
    """The queues of ``LocalBus``, and with any bus what could not leave the outbox."""

    def __init__(self, database: Database, bus: Requeue) -> None:
        self._database = database
        self._bus = bus

    async def list(
        self, limit: int = 50, cursor: int | None = None, queue: str | None = None
    ) -> tuple[list[DeadLetter], int | None]:
        found = await self._database.read(
            lambda session: repository.select_dead(session, limit + 1, cursor, queue)
        )
        page = found[:limit]
        return page, page[-1].id if len(found) > limit else None

    async def replay(self, ids: Sequence[int]) -> int:
        letters = await self._database.read(lambda session: repository.select_dead_by_id(session, ids))
        return await self._replay(letters)

    async def replay_queue(self, queue: str) -> int:
        newest, _ = await self.list(1, queue=queue)
        replayed = after = 0
        while newest and after < newest[0].id:
            letters = await self._page(queue, after, newest[0].id)
            if not letters:
                break
            replayed += await self._replay(letters)
            after = letters[-1].id
        return replayed

    async def discard(self, ids: Sequence[int]) -> int:
        return await self._database.write(lambda session: repository.delete_dead(session, ids))

    async def _page(self, queue: str, after: int, last: int) -> Sequence[DeadLetter]:
        return await self._database.read(
            lambda session: repository.select_dead_between(session, queue, after, last, PAGE)
        )

    async def _replay(self, letters: Sequence[DeadLetter]) -> int:
        by_queue: dict[str, dict[int, Message]] = {}
        for letter in letters:
            try:
                message = repository.decode(letter.body)
            except msgspec.DecodeError:
                _log.warning("dead letter is not a message", id=letter.id, queue=letter.queue)
                continue
            by_queue.setdefault(letter.queue, {})[letter.id] = message
        for queue, messages in by_queue.items():
            await self._put_back(queue, messages)
        return sum(map(len, by_queue.values()))

    async def _put_back(self, queue: str, messages: dict[int, Message]) -> None:
        if queue == OUTBOX:
            await self._database.write(lambda session: outbox.add(session, [*messages.values()]))
        else:
            await self._bus.requeue(queue, [*messages.values()])
        await self._database.write(lambda session: repository.delete_dead(session, [*messages]))


class JoinedDeadLetters:
    """Those of the broker, whose numbers are the larger ones, and then those of the database."""

    def __init__(self, broker: DeadLetters, database: DeadLetters) -> None:
        self._broker = broker
        self._database = database

    async def list(
        self, limit: int = 50, cursor: int | None = None, queue: str | None = None
    ) -> tuple[list[DeadLetter], int | None]:
        found, _ = await self._broker.list(limit + 1, cursor, queue)
        if len(found) <= limit:
            found += (await self._database.list(limit + 1 - len(found), cursor, queue))[0]
        page = found[:limit]
        return page, page[-1].id if len(found) > limit else None

    async def replay(self, ids: Sequence[int]) -> int:
        return await self._broker.replay(ids) + await self._database.replay(ids)

    async def replay_queue(self, queue: str) -> int:
        return await self._broker.replay_queue(queue) + await self._database.replay_queue(queue)

    async def discard(self, ids: Sequence[int]) -> int:
        return await self._broker.discard(ids) + await self._database.discard(ids)
