"""From the outbox to the bus."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence

import msgspec
import structlog

from yuanlian.kit.clock import Clock
from yuanlian.kit.database.database import Database
from yuanlian.kit.messaging import outbox, repository
from yuanlian.kit.messaging.bus import Bus
from yuanlian.kit.messaging.message import Message
from yuanlian.kit.messaging.repository import OutboxEntry
from yuanlian.kit.messaging.waiting import pause_after, set_within

BATCH = 500
GATHER = 0.005
POLL = 0.25
RECHECK = 0.004

_log = structlog.get_logger("relay")


class Relay:
    """Publishes what is due in the outbox, oldest first, and deletes it after the bus has it.

    At least once: after a crash, or with two relays on one outbox, a message may be published
    again; consumers tell by its id. Nothing is lost: an error is logged and the same rows are
    tried again, after a pause that doubles up to 5 s.

    An idle relay takes a message at once, woken by ``outbox.add`` in this process; under load it
    takes what has gathered, at most once per ``gather`` seconds. ``poll``: seconds after which it
    looks by itself, for rows of other processes and for delays that have ended.
    """

    def __init__(
        self,
        database: Database,
        bus: Bus,
        clock: Clock,
        *,
        batch: int = BATCH,
        gather: float = GATHER,
        poll: float = POLL,
    ) -> None:
        self._database = database
        self._bus = bus
        self._clock = clock
        self._batch = batch
        self._gather = gather
        self._poll = poll
        self._wake = asyncio.Event()
        self._woken = False
        self._stopped = asyncio.Event()
        self._published: Sequence[int] = ()
        self._task: asyncio.Task[None] | None = None
        self._end_listening: Callable[[], None] | None = None

    async def start(self) -> None:
        loop = asyncio.get_running_loop()

        def wake() -> None:
            # One call into the loop per round, however many rows are added meanwhile.
            if not self._woken:
                self._woken = True
                # A loop that ended without ``stop`` must not fail the caller's transaction.
                with contextlib.suppress(RuntimeError):
                    loop.call_soon_threadsafe(self._wake.set)

        self._stopped.clear()
        self._end_listening = outbox.listen(wake)
        self._task = asyncio.create_task(self._run(), name="relay")

    async def stop(self) -> None:
        """Finishes the batch at hand; what is left waits in the outbox."""
        if self._task is None or self._end_listening is None:
            return
        self._end_listening()
        self._stopped.set()
        self._wake.set()
        await self._task
        self._task = None

    async def _run(self) -> None:
        failures = 0
        patience = self._poll
        while not self._stopped.is_set():
            try:
                size = await self._round()
            except Exception:  # noqa: BLE001 - whatever it was, the rows are still there: try again
                failures += 1
                _log.exception("outbox not relayed", retry_in_s=pause_after(failures))
                await set_within(self._stopped, pause_after(failures))
                continue
            failures = 0
            if size == 0:
                woken = await set_within(self._wake, patience)
                # A wake may come a moment before its commit is visible: then look again, soon at first.
                patience = RECHECK if woken else min(patience * 4, self._poll)
            elif size < self._batch:
                patience = self._poll
                await set_within(self._stopped, self._gather)
        await self._forget_published()

    async def _round(self) -> int:
        # Cleared before the look: what is added from now on wakes again.
        self._wake.clear()
        self._woken = False
        now, done = self._clock.now_ms(), self._published
        # In a write, not a read: with one writer this look queues behind the commit that woke it.
        entries = await self._database.write(
            lambda session: repository.next_outbox(session, done, now, self._batch)
        )
        self._published = ()
        messages = await self._decode(entries)
        if messages:
            await self._bus.publish(messages)
            self._published = [entry.sequence for entry in entries]
        return len(entries)

    async def _decode(self, entries: Sequence[OutboxEntry]) -> list[Message]:
        messages: list[Message] = []
        for entry in entries:
            try:
                messages.append(repository.decode(entry.body))
            except msgspec.DecodeError as error:
                await self._bury(entry, f"{type(error).__name__}: {error}")
        return messages

    async def _bury(self, entry: OutboxEntry, reason: str) -> None:
        """What cannot be read must not stop what comes after it."""
        _log.error("outbox row is not a message", message_id=entry.message_id, error=reason)
        now = self._clock.now_ms()
        await self._database.write(lambda session: repository.bury_outbox(session, [entry], reason, now))

    async def _forget_published(self) -> None:
        done = self._published
        if done:
            await self._database.write(lambda session: repository.delete_outbox(session, done))
            self._published = ()
