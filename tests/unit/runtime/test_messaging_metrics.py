"""What operators see of the queues that a process empties, and of its outbox."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from tests.support.databases import open_database

from yuanlian.kit.clock import ManualClock
from yuanlian.kit.database.schema import Base
from yuanlian.kit.errors import ConflictError, DependencyAwayError
from yuanlian.kit.messaging import outbox
from yuanlian.kit.messaging.bus import Subscription
from yuanlian.kit.messaging.local import LocalBus
from yuanlian.kit.messaging.message import Message
from yuanlian.kit.messaging.rabbitmq import RabbitMqBus
from yuanlian.kit.messaging.relay import Relay
from yuanlian.kit.messaging.tables import OutboxRow
from yuanlian.kit.observe.metrics import Metrics
from yuanlian.runtime.messaging_metrics import watch


def test_each_queue_and_the_outbox_are_shown(tmp_path: Path) -> None:
    database, clock, metrics = open_database(tmp_path / "yuanlian.db"), ManualClock(1_000_000), Metrics()
    database.migrate(lambda connection: Base.metadata.create_all(connection))

    async def refuse(messages: Sequence[Message]) -> None:
        raise ConflictError

    async def lack(messages: Sequence[Message]) -> None:
        raise DependencyAwayError

    async def scenario() -> None:
        bus = LocalBus(database, clock)
        bus.subscribe(Subscription("refusing", ("a",), refuse))
        bus.subscribe(Subscription("lacking", ("b",), lack))
        relay = Relay(database, bus, clock, poll=0.01)
        watch(metrics, bus, relay)
        await bus.start()
        await relay.start()
        now = clock.now_ms()
        row = OutboxRow(message_id="unreadable", due_at=0, body="{")
        await database.write(lambda session: session.add(row))
        sent = [Message(type_, type_, now, "tenant_a", None) for type_ in ("a", "b")]
        await database.write(lambda session: outbox.add(session, sent))
        await eventually('messages_dead_total{queue="refusing"} 1.0')
        await eventually('messages_dead_total{queue="outbox"} 1.0')
        assert 'messages_done_total{queue="lacking"} 0.0' in shown()
        assert 'messages_retried_total{queue="lacking"} 0.0' in shown()
        assert 'queue_stalled_seconds{queue="refusing"} 0.0' in shown()
        while 'queue_stalled_seconds{queue="lacking"} 0.0' in shown():
            await asyncio.sleep(0.01)
        await relay.stop()
        await bus.stop()
        await database.close()

    def shown() -> list[str]:
        return metrics.render().decode().splitlines()

    async def eventually(line: str) -> None:
        while line not in shown():
            await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(scenario(), 60))


def test_a_message_that_cannot_be_published_is_seen_to_grow_old(tmp_path: Path) -> None:
    database, clock, metrics = open_database(tmp_path / "yuanlian.db"), ManualClock(1_000_000), Metrics()
    database.migrate(lambda connection: Base.metadata.create_all(connection))

    async def scenario() -> None:
        bus = RabbitMqBus("amqp://guest:guest@127.0.0.1:1/", clock)  # nobody is there
        relay = Relay(database, bus, clock, poll=0.01)
        watch(metrics, bus, relay)
        await relay.start()
        sent = [Message("a", "a", clock.now_ms() - 90_000, "tenant_a", None)]
        await database.write(lambda session: outbox.add(session, sent))
        while "outbox_oldest_seconds 90.0" not in metrics.render().decode().splitlines():
            await asyncio.sleep(0.01)
        await relay.stop()
        await database.close()

    asyncio.run(asyncio.wait_for(scenario(), 60))
