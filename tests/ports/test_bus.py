"""The bus suite against every adapter, and what is particular to one."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session
from tests.ports.bus_suite import BusSuite, Consumer, consuming, ids, messages, until, until_dead

from yuanlian.kit.clock import ManualClock, SystemClock
from yuanlian.kit.database.schema import Base
from yuanlian.kit.database.sqlite import SqliteDatabase
from yuanlian.kit.messaging.bus import Bus, Subscription
from yuanlian.kit.messaging.dead_letters import DeadLetters
from yuanlian.kit.messaging.local import LocalBus
from yuanlian.kit.messaging.message import Message
from yuanlian.kit.messaging.relay import Relay
from yuanlian.kit.messaging.tables import BusMessageRow, DeliveryRow

POLL = 0.01


class LocalInstallation:
    def __init__(self, folder: Path) -> None:
        self.path = folder / "yuanlian.db"
        self.database = SqliteDatabase(self.path)
        self.database.migrate(lambda connection: Base.metadata.create_all(connection))
        self.clock = ManualClock(SystemClock().now_ms())

    def bus(self) -> LocalBus:
        return LocalBus(self.database, self.clock, poll=POLL)

    def relay(self, bus: Bus) -> Relay:
        return Relay(self.database, bus, self.clock, poll=POLL)

    def dead_letters(self, bus: Bus) -> DeadLetters:
        assert isinstance(bus, LocalBus)
        return DeadLetters(self.database, bus)

    def now_ms(self) -> int:
        return self.clock.now_ms()

    def advance(self, ms: int) -> None:
        self.clock.advance(ms)

    async def rows(self) -> tuple[int, int]:
        """Messages and deliveries that the store holds."""

        def count(session: Session) -> tuple[int, int]:
            messages = session.scalar(select(func.count()).select_from(BusMessageRow))
            deliveries = session.scalar(select(func.count()).select_from(DeliveryRow))
            return messages or 0, deliveries or 0

        return await self.database.read(count)

    async def close(self) -> None:
        await self.database.close()


class TestLocalBus(BusSuite):
    @pytest.fixture
    def installation(self, tmp_path: Path) -> LocalInstallation:
        return LocalInstallation(tmp_path)

    def test_a_batch_whose_process_was_killed_is_delivered_again(
        self, installation: LocalInstallation
    ) -> None:
        async def scenario() -> None:
            child = await asyncio.to_thread(
                subprocess.run,
                [sys.executable, "-c", KILLED_WHILE_HANDLING, str(installation.path)],
                timeout=60,
                check=False,
            )
            assert child.returncode == -signal.SIGKILL
            assert await installation.rows() == (3, 3)
            installation.advance(60_000)  # the child read the real clock
            consumer = Consumer()
            bus = consuming(installation, consumer)
            await bus.start()
            await until(lambda: consumer.seen == ["msg_0", "msg_1", "msg_2"])
            await bus.stop()
            assert await installation.rows() == (0, 0)

        self.play(installation, scenario)

    def test_a_delivery_is_never_in_memory_twice(self, installation: LocalInstallation) -> None:
        """Publishing races with the queue's own reading of its table."""

        async def scenario() -> None:
            consumer = Consumer()
            bus = consuming(installation, consumer, batch=8)
            await bus.start()
            sent = messages(800)

            async def publish(part: Sequence[Message]) -> None:
                for message in part:
                    await bus.publish([message])

            await asyncio.gather(*(publish(sent[start::8]) for start in range(8)))
            await until(lambda: len(consumer.seen) >= 800)
            await bus.stop()
            assert sorted(consumer.seen) == sorted(ids(sent))
            assert await installation.rows() == (0, 0)

        self.play(installation, scenario)

    def test_a_row_that_is_not_a_message_dies_and_holds_no_other_back(
        self, installation: LocalInstallation
    ) -> None:
        async def scenario() -> None:
            def put(session: Session) -> None:
                session.add(BusMessageRow(sequence=1, message_id="msg_x", body="{"))
                session.add(DeliveryRow(sequence=1, queue="q", attempt=0, due_at=0))

            await installation.database.write(put)
            consumer = Consumer()
            bus = consuming(installation, consumer)
            await bus.publish(sent := messages(2))
            await bus.start()
            await until(lambda: consumer.seen == ids(sent))
            (dead,) = await until_dead(installation, bus, 1)
            assert (dead.message_id, dead.body) == ("msg_x", "{")
            assert await installation.dead_letters(bus).replay([dead.id]) == 0
            await bus.stop()
            assert [letter.id for letter in await until_dead(installation, bus, 1)] == [dead.id]

        self.play(installation, scenario)

    def test_a_row_that_another_process_put_back_is_found(self, installation: LocalInstallation) -> None:
        async def scenario() -> None:
            consumer = Consumer()
            bus = consuming(installation, consumer)
            await bus.start()
            await bus.publish(first := messages(1))
            await until(lambda: len(consumer.seen) == 1)
            await installation.bus().requeue("q", second := messages(1))
            await until(lambda: consumer.seen == ids([*first, *second]))
            await bus.stop()

        self.play(installation, scenario)

    def test_a_body_stays_as_long_as_any_queue_needs_it(self, installation: LocalInstallation) -> None:
        async def scenario() -> None:
            fast, slow = Consumer(), Consumer()
            bus = installation.bus()
            bus.subscribe(Subscription("fast", ("thing.happened",), fast))
            bus.subscribe(Subscription("slow", ("thing.happened",), slow))
            sent = messages(2)
            slow.fail_with[sent[0].id] = [OSError("down"), OSError("down")]
            await bus.start()
            await bus.publish(sent)
            await until(lambda: len(fast.seen) == 2 and len(slow.seen) == 1)
            await bus.stop()
            assert await installation.rows() == (1, 1)
            slow.fail_with.clear()
            again = consuming(installation, slow, "slow")
            await again.start()
            installation.advance(1000)
            await until(lambda: len(slow.seen) == 2)
            await again.stop()
            assert await installation.rows() == (0, 0)

        self.play(installation, scenario)

    def test_a_queue_has_one_handler(self, installation: LocalInstallation) -> None:
        async def scenario() -> None:
            bus = consuming(installation, Consumer())
            with pytest.raises(ValueError, match="has its handler already"):
                bus.subscribe(Subscription("q", ("other.happened",), Consumer()))

        self.play(installation, scenario)


KILLED_WHILE_HANDLING = """
import asyncio, os, pathlib, signal, sys
from yuanlian.kit.clock import SystemClock
from yuanlian.kit.database.sqlite import SqliteDatabase
from yuanlian.kit.messaging.bus import Subscription
from yuanlian.kit.messaging.local import LocalBus
from yuanlian.kit.messaging.message import Message

async def handler(messages):
    os.kill(os.getpid(), signal.SIGKILL)

async def main():
    bus = LocalBus(SqliteDatabase(pathlib.Path(sys.argv[1])), SystemClock())
    bus.subscribe(Subscription("q", ("thing.happened",), handler))
    await bus.publish([Message(f"msg_{n}", "thing.happened", 0, "tenant_a", None) for n in range(3)])
    await bus.start()
    await asyncio.sleep(30)

asyncio.run(main())
"""
