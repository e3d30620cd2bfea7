"""A RabbitMQ, and a database for the outbox, as the bus suite wants them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiormq
from sqlalchemy import func, select

from deploy.servers.rabbitmq import RabbitMq
from yuanlian.kit.clock import ManualClock, SystemClock
from yuanlian.kit.database.schema import Base
from yuanlian.kit.database.sqlite import SqliteDatabase
from yuanlian.kit.messaging.bus import Bus
from yuanlian.kit.messaging.dead_letters import DatabaseDeadLetters, DeadLetters
from yuanlian.kit.messaging.delivery import BACKOFF_SECONDS
from yuanlian.kit.messaging.rabbitmq import RabbitMqBus
from yuanlian.kit.messaging.rabbitmq_dead_letters import RabbitMqDeadLetters
from yuanlian.kit.messaging.rabbitmq_topology import dead, retry
from yuanlian.kit.messaging.relay import Relay
from yuanlian.kit.messaging.repository import DeadLetter
from yuanlian.kit.messaging.tables import OutboxRow

SECOND_MS = 10
"""A second of backoff lasts so long here: the steps are 10 ms, 50 ms, 300 ms and 3 s."""


class RabbitMqInstallation:
    def __init__(self, server: RabbitMq, folder: Path, second_ms: int = SECOND_MS) -> None:
        self.server = server
        self.path = folder / "yuanlian.db"
        self.database = SqliteDatabase(self.path)
        self.database.migrate(lambda connection: Base.metadata.create_all(connection))
        self.clock = ManualClock(SystemClock().now_ms())
        self._second_ms = second_ms
        self._buses: list[RabbitMqBus] = []

    def bus(self, *, url: str | None = None, **options: Any) -> RabbitMqBus:
        """``url``: of what stands before the server."""
        made: dict[str, Any] = {"clock": SystemClock(), "second_ms": self._second_ms} | options
        bus = RabbitMqBus(url or self.server.url, **made)
        self._buses.append(bus)
        return bus

    def relay(self, bus: Bus) -> Relay:
        return Relay(self.database, bus, self.clock, poll=0.01)

    def dead_letters(self, bus: Bus) -> DeadLetters:
        assert isinstance(bus, RabbitMqBus)
        return RabbitMqDeadLetters(bus, self.server.url)

    def now_ms(self) -> int:
        return self.clock.now_ms()

    def advance(self, ms: int) -> None:
        """For the outbox; the queues of RabbitMQ have a clock of their own."""
        self.clock.advance(ms)

    @property
    def queues(self) -> set[str]:
        names = {queue for bus in self._buses for queue in bus.bindings}
        return names | {dead(name) for name in names} | {retry(n, s) for n in names for s in BACKOFF_SECONDS}

    async def counts(self) -> dict[str, int]:
        """Messages that lie ready, in those queues that have any."""
        found: dict[str, int] = {}

        async def count(channel: aiormq.abc.AbstractChannel, name: str) -> None:
            ok = await channel.queue_declare(name, passive=True)
            if ok.message_count:
                found[name] = ok.message_count

        await self._each(count)
        return found

    async def unsettled(self) -> bool:
        """Whether anything but dead letters is in a queue, handed out or not."""
        listed = await asyncio.to_thread(self.server.control, "list_queues", "name", "messages")
        rows = (line.split() for line in listed.splitlines()[1:])
        return any(int(count) for name, count in rows if not name.endswith(".dead"))

    async def in_outbox(self) -> int:
        return await self.database.read(
            lambda session: session.scalar(select(func.count()).select_from(OutboxRow)) or 0
        )

    async def outbox_dead_letters(self) -> list[DeadLetter]:
        found, _ = await DatabaseDeadLetters(self.database, self.bus()).list()
        return found

    async def forget_consumer(self, bus: RabbitMqBus, queue: str) -> None:
        """On the broker's side: the bus is not told."""
        lane = bus._queues[queue]._lane
        assert lane is not None
        await lane.channel.basic_cancel(queue)

    def half_close(self, bus: RabbitMqBus) -> None:
        """What consumes says no more, as aiormq does before it closes a connection."""
        assert bus._link is not None
        bus._link._writer.write_eof()

    def half_close_publisher(self, bus: RabbitMqBus) -> None:
        link = bus._publisher._link
        assert link is not None
        link._writer.write_eof()

    async def close(self) -> None:
        for bus in self._buses:
            await bus.stop()
        if self.server.process is not None:
            await self._each(lambda channel, name: channel.queue_delete(name))
        await self.database.close()

    async def _each(self, work: Callable[[aiormq.abc.AbstractChannel, str], Any]) -> None:
        connection = await aiormq.connect(self.server.url)
        try:
            channel = await connection.channel()
            for name in self.queues:
                await work(channel, name)
        finally:
            await connection.close()
            await asyncio.sleep(0)
