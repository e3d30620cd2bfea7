"""From the outbox to the bus."""

from __future__ import annotations

import asyncio
import contextlib
from bisect import bisect_right
from collections.abc import Callable, Sequence

import msgspec
import structlog
from sqlalchemy.orm import Session

from yuanlian.kit.clock import Clock
from yuanlian.kit.database.database import Database
from yuanlian.kit.messaging import outbox, repository
from yuanlian.kit.messaging.bus import Bus, BusUnavailableError, MessageRefusedError
from yuanlian.kit.messaging.delivery import reason
from yuanlian.kit.messaging.lease import RelayLease
from yuanlian.kit.messaging.message import Message
from yuanlian.kit.messaging.repository import OutboxEntry
from yuanlian.kit.messaging.waiting import Signal
from yuanlian.kit.resilience.keeping import pause_after

BATCH = 500
IN_FLIGHT = 1000
"""Messages that the bus may have at once; with more, the rest waits in the outbox."""
GATHER = 0.03
POLL = 1.0
RECHECK = 0.004

_log = structlog.get_logger("relay")


class Relay:
    """Publishes what is due in the outbox, oldest first, and deletes it after the bus has it.

    At least once: after a crash, or with two relays on one outbox, a message may be published
    again; consumers tell by its id. Nothing is lost: an error is logged and the same rows are
    tried again, after a pause that doubles up to 5 s.

    An idle relay takes a message at once, woken by ``outbox.add`` in this process; under load it
    takes what has gathered, at most once per ``gather`` seconds, and in the same transaction deletes
    what the bus has answered for meanwhile. ``poll``: seconds after which it looks by itself, for
    rows of other processes and for delays that have ended. ``lease``: of several relays on one outbox the
    one that holds it publishes for all; the others stand by. ``buried``: rows given up since the start.
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
        lease: RelayLease | None = None,
    ) -> None:
        self._lease = lease
        self._database = database
        self._bus = bus
        self._clock = clock
        self._batch = batch
        self._gather = gather
        self._poll = poll
        self._patience = poll
        self._news = Signal()
        self._added = False
        self._more = False
        self._stopped = Signal()
        self._publishing: set[asyncio.Task[None]] = set()
        self._in_flight: set[int] = set()
        self._standing_by = False
        self._taken = 0
        self._whole_look_at = 0.0
        self._settled: list[int] = []
        self._error: Exception | None = None
        self._failures = 0
        self._oldest_ms: int | None = None
        self.buried = 0
        self._task: asyncio.Task[None] | None = None
        self._end_listening: Callable[[], None] | None = None

    async def start(self) -> None:
        loop = asyncio.get_running_loop()

        def wake() -> None:
            # One call into the loop per look, however many rows are added meanwhile.
            if not self._added:
                self._added = True
                # A loop that ended without ``stop`` must not fail the caller's transaction.
                with contextlib.suppress(RuntimeError):
                    loop.call_soon_threadsafe(self._news.set)

        self._stopped.clear()
        self._end_listening = outbox.listen(wake)
        self._task = asyncio.create_task(self._run(), name="relay")

    async def stop(self) -> None:
        """Finishes what the bus has at hand; what is left waits in the outbox."""
        if self._task is None or self._end_listening is None:
            return
        self._end_listening()
        self._stopped.set()
        self._news.set()
        await self._task
        self._task = None

    @property
    def behind_s(self) -> float:
        """For how long the oldest message that may go has waited: from what the clock of its writer said, to
        what ours says. 0 when none waits, as far as this relay knows, or another relay publishes."""
        return 0.0 if self._oldest_ms is None else max(self._clock.now_ms() - self._oldest_ms, 0) / 1000

    async def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                await self._round()
            except Exception as error:  # noqa: BLE001 - whatever it was, the rows are still there: try again
                self._failures += 1
                pause = pause_after(self._failures)
                expected = isinstance(error, BusUnavailableError)
                _log.error("outbox not relayed", error=reason(error), retry_in_s=pause, exc_info=not expected)
                await self._stopped.within(pause)
            else:
                await self._rest()
        await self._landed()
        self._oldest_ms = None
        await self._forget_settled()
        if self._lease is not None:
            await self._lease.release()

    async def _rest(self) -> None:
        """Until there is a reason for the next look."""
        if self._standing_by and self._lease is not None:
            await self._stopped.within(self._lease.fresh_s)
            return
        if self._more and self._room():
            return
        await self._stopped.within(self._gather)
        while not (self._settled or self._error or (self._room() and (self._added or self._more))):
            self._news.clear()
            if self._stopped.is_set() or not await self._news.within(self._patience):
                return

    def _room(self) -> int:
        return max(IN_FLIGHT - len(self._in_flight), 0)

    async def _round(self) -> None:
        if self._error is not None:
            # What was not published comes before what follows it: nothing new until all is back.
            await self._landed()
            error, self._error = self._error, None
            raise error
        self._standing_by = False
        if self._lease is not None and not await self._lease.held():
            self._standing_by = True
            await self._stand_by()
            return
        was_added = self._added
        entries = await self._look()
        if entries:
            self._patience = self._poll
            await self._publish(entries)
        else:
            # A wake may come a moment before its commit is visible: then look again, soon at first.
            self._patience = RECHECK if was_added else min(self._patience * 4, self._poll)

    async def _stand_by(self) -> None:
        """Another relay publishes what is added here."""
        self._added = self._more = False
        self._oldest_ms = None
        self._patience = self._poll
        await self._forget_settled()

    async def _forget_settled(self) -> None:
        settled = self._settled
        if settled:
            await self._database.write(lambda session: repository.delete_outbox(session, settled))
            self._settled = self._settled[len(settled) :]

    async def _look(self) -> list[OutboxEntry]:
        """Deletes what is settled and returns what is next and not in flight."""
        limit, after = self._window()
        in_flight = frozenset(self._in_flight) if after == 0 else frozenset()
        settled, self._settled = self._settled, []
        now = self._clock.now_ms()

        def look(session: Session) -> list[OutboxEntry]:
            # Cleared in the database's thread: with one writer, whoever adds a row after this look
            # runs after it there, and wakes again; whoever ran before it has been seen.
            self._added = False
            return repository.next_outbox(session, settled, now, limit, after)

        try:
            # In a write, not a read: with one writer this look queues behind the commit that woke it.
            found = await self._database.write(look)
        except Exception:
            self._settled = settled + self._settled
            raise
        self._more = len(found) >= limit
        if after == 0:
            self._oldest_ms = _oldest_ms(found, now)
        return [entry for entry in found if entry.sequence not in in_flight]

    def _window(self) -> tuple[int, int]:
        """How many rows to read, and above which number.

        Nearly always only what was added since the last look. But a delay ends, and on some databases
        a commit becomes visible, out of turn: when nothing is in flight, and every ``poll`` seconds,
        the look begins at the first row.
        """
        room, now = min(self._batch, self._room()), asyncio.get_running_loop().time()
        if self._in_flight and now < self._whole_look_at:
            return room, self._taken
        if not self._in_flight:
            self._taken = 0
        self._whole_look_at = now + self._poll
        return room + len(self._in_flight), 0

    async def _publish(self, entries: Sequence[OutboxEntry]) -> None:
        batch: list[tuple[OutboxEntry, Message]] = []
        for entry in entries:
            try:
                batch.append((entry, repository.decode(entry.body)))
            except msgspec.DecodeError as error:
                await self._bury(entry, reason(error))
        self._taken = max(self._taken, *(entry.sequence for entry in entries))
        if batch:
            sequences = [entry.sequence for entry, _ in batch]
            self._in_flight.update(sequences)
            task = asyncio.create_task(self._hand_over(batch, sequences), name="publish")
            self._publishing.add(task)
            task.add_done_callback(self._publishing.discard)

    async def _hand_over(self, batch: list[tuple[OutboxEntry, Message]], sequences: Sequence[int]) -> None:
        try:
            await self._publish_or_bury(batch)
        except Exception as error:  # noqa: BLE001 - the next round's to report; the rows are still there
            self._error = error
        else:
            self._failures = 0
            self._settled += sequences
        finally:
            self._in_flight.difference_update(sequences)
            self._news.set()

    async def _publish_or_bury(self, batch: list[tuple[OutboxEntry, Message]]) -> None:
        while batch:
            try:
                await self._bus.publish([message for _, message in batch])
            except MessageRefusedError as error:
                refused = error.message
                entry = next(entry for entry, message in batch if message is refused)
                await self._bury(entry, str(error))
                batch = [one for one in batch if one[0] is not entry]
            else:
                return

    async def _landed(self) -> None:
        """When the bus has answered for everything."""
        while self._publishing:
            await asyncio.wait(self._publishing)

    async def _bury(self, entry: OutboxEntry, why: str) -> None:
        """What cannot be read, or sent, must not stop what comes after it."""
        _log.error("outbox row cannot be sent", message_id=entry.message_id, error=why)
        now = self._clock.now_ms()
        await self._database.write(lambda session: repository.bury_outbox(session, [entry], why, now))
        self.buried += 1


def _oldest_ms(found: Sequence[OutboxEntry], now_ms: int) -> int | None:
    """Since when the oldest of them may be published (epoch ms); delayed ones come after all others."""
    if not found:
        return None
    delayed = bisect_right(found, repository.AT_ONCE, key=lambda entry: entry.due_at)
    oldest = [entry.due_at for entry in found[delayed : delayed + 1]]
    if delayed:
        try:
            oldest.append(repository.decode(found[0].body).timestamp)
        except msgspec.DecodeError:
            oldest.append(now_ms)  # about to be buried
    return min(oldest)
