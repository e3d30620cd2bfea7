"""The bus suite against every adapter, and what is particular to one."""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import pytest
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session
from tests.ports.bus_suite import BusSuite, Consumer, consuming, ids, messages, until, until_dead

from yuanlian.kit.clock import ManualClock, SystemClock
from yuanlian.kit.database.schema import Base
from yuanlian.kit.database.sqlite import SqliteDatabase
from yuanlian.kit.messaging import inbox
from yuanlian.kit.messaging.bus import Bus, Handler, Subscription
from yuanlian.kit.messaging.dead_letters import DatabaseDeadLetters, DeadLetters
from yuanlian.kit.messaging.local import PATIENCE, LocalBus
from yuanlian.kit.messaging.local_queue import READY_LIMIT
from yuanlian.kit.messaging.message import Message
from yuanlian.kit.messaging.relay import Relay
from yuanlian.kit.messaging.tables import BusMessageRow, DeliveryRow, OutboxRow

POLL = 0.01
IMPATIENT = 0.01
NEVER = 3600.0
T = TypeVar("T")


class LocalInstallation:
    def __init__(self, folder: Path) -> None:
        self.path = folder / "yuanlian.db"
        self.database = SqliteDatabase(self.path)
        self.database.migrate(lambda connection: Base.metadata.create_all(connection))
        self.clock = ManualClock(SystemClock().now_ms())

    def bus(self, patience: float = PATIENCE, poll: float = POLL) -> LocalBus:
        return LocalBus(self.database, self.clock, poll=poll, patience=patience)

    def relay(self, bus: Bus) -> Relay:
        return Relay(self.database, bus, self.clock, poll=POLL)

    def dead_letters(self, bus: Bus) -> DeadLetters:
        assert isinstance(bus, LocalBus)
        return DatabaseDeadLetters(self.database, bus)

    def now_ms(self) -> int:
        return self.clock.now_ms()

    def advance(self, ms: int) -> None:
        self.clock.advance(ms)

    async def rows(self) -> tuple[int, int]:
        """Messages and deliveries that the bus has stored."""

        def count(session: Session) -> tuple[int, int]:
            messages = session.scalar(select(func.count()).select_from(BusMessageRow))
            deliveries = session.scalar(select(func.count()).select_from(DeliveryRow))
            return messages or 0, deliveries or 0

        return await self.database.read(count)

    async def in_outbox(self) -> int:
        return await self.database.read(
            lambda session: session.scalar(select(func.count()).select_from(OutboxRow)) or 0
        )

    def refuse_deliveries(self) -> Callable[[], None]:
        """Lets every INSERT of a delivery fail; returns what ends it."""
        self._execute(
            "CREATE TRIGGER refuse BEFORE INSERT ON bus_deliveries "
            "BEGIN SELECT RAISE(ABORT, 'disk full'); END"
        )
        return lambda: self._execute("DROP TRIGGER refuse")

    def _execute(self, sql: str) -> None:
        self.database.migrate(lambda connection: connection.exec_driver_sql(sql))

    async def close(self) -> None:
        await self.database.close()


class Gate:
    """A handler that stands still until it is opened, and tells when it has begun."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.open = asyncio.Event()
        self.seen: list[str] = []
        self.fail_with: list[Exception] = []

    async def __call__(self, batch: Sequence[Message]) -> None:
        self.begun.set()
        await self.open.wait()
        if self.fail_with:
            raise self.fail_with.pop()
        self.seen.extend(ids(batch))


class SlowToAnswer:
    """A database whose commits are heard of late."""

    def __init__(self, database: SqliteDatabase) -> None:
        self._database = database
        self.read, self.ping, self.close = database.read, database.ping, database.close
        self.answer = asyncio.Event()

    async def write(self, work: Callable[[Session], T], *, repeatable: bool = False) -> T:
        result = await self._database.write(work)
        await self.answer.wait()
        return result


async def until_rows(installation: LocalInstallation, rows: tuple[int, int]) -> None:
    async with asyncio.timeout(10):
        while await installation.rows() != rows:
            await asyncio.sleep(0.002)


async def started(
    installation: LocalInstallation, patience: float = NEVER
) -> tuple[LocalBus, Consumer, Gate]:
    """A bus with the queues "quick" and "gate", two messages a batch, whose messages go to both from
    memory: they have read their tables, and will not again by themselves."""
    quick, gate = Consumer(), Gate()
    bus = installation.bus(patience, poll=NEVER)
    bus.subscribe(Subscription("quick", ("thing.happened",), quick))
    bus.subscribe(Subscription("gate", ("thing.happened",), gate, batch=2))
    gate.open.set()
    await bus.start()
    allow = installation.refuse_deliveries()
    async with asyncio.timeout(10):
        while True:
            try:
                await bus.publish(messages(1))
                break
            except IntegrityError:  # a queue still wanted to store it
                await asyncio.sleep(0.002)
    allow()
    quick.seen.clear()
    gate.seen.clear()
    gate.open.clear()
    gate.begun.clear()
    return bus, quick, gate


class TestLocalBus(BusSuite):
    @pytest.fixture
    def installation(self, tmp_path: Path) -> LocalInstallation:
        return LocalInstallation(tmp_path)

    def test_nothing_is_stored_of_what_is_handled_at_once(self, installation: LocalInstallation) -> None:
        async def scenario() -> None:
            bus, quick, gate = await started(installation)
            gate.open.set()
            installation.refuse_deliveries()
            sent = messages(500)
            for start in range(0, 500, 50):
                await bus.publish(sent[start : start + 50])
            assert quick.seen == gate.seen == ids(sent)
            await bus.stop()
            assert await installation.rows() == (0, 0)

        self.play(installation, scenario)

    def test_publish_returns_no_sooner_than_every_queue_has_handled_or_stored_it(
        self, installation: LocalInstallation
    ) -> None:
        async def scenario() -> None:
            bus, quick, gate = await started(installation)
            publishing = asyncio.create_task(bus.publish(sent := messages(1)))
            await gate.begun.wait()
            await until(lambda: quick.seen == ids(sent))
            assert not publishing.done()
            assert await installation.rows() == (0, 0)
            gate.open.set()
            await publishing
            assert gate.seen == ids(sent)
            await bus.stop()

        self.play(installation, scenario)

    def test_what_a_slow_handler_has_at_hand_is_stored_and_its_rows_go_when_it_returns(
        self, installation: LocalInstallation
    ) -> None:
        async def scenario() -> None:
            bus, _, gate = await started(installation, IMPATIENT)
            await bus.publish(first := messages(5))
            assert gate.seen == []
            assert await installation.rows() == (5, 5), "two at hand, three behind them"
            await bus.publish(second := messages(3))
            assert await installation.rows() == (8, 8)
            gate.open.set()
            await until(lambda: gate.seen == ids([*first, *second]))
            await until_rows(installation, (0, 0))
            await bus.publish(third := messages(1))
            assert gate.seen == ids([*first, *second, *third])
            gate.open.clear()
            await bus.publish(messages(1))
            assert await installation.rows() == (1, 1), "slow once more"
            gate.open.set()
            await bus.stop()

        self.play(installation, scenario)

    def test_a_slow_handler_that_fails_in_the_end_is_retried_like_any_other(
        self, installation: LocalInstallation
    ) -> None:
        async def scenario() -> None:
            bus, _, gate = await started(installation, IMPATIENT)
            gate.fail_with = [OSError("down")]
            await bus.publish(sent := messages(1))
            assert await installation.rows() == (1, 1)
            gate.open.set()
            await until(lambda: gate.fail_with == [])
            installation.advance(999)
            await asyncio.sleep(0.03)
            assert gate.seen == []
            installation.advance(1)
            await until(lambda: gate.seen == ids(sent))
            await bus.stop()
            assert await installation.rows() == (0, 0)

        self.play(installation, scenario)

    def test_stop_stores_what_its_handlers_have_not_begun(self, installation: LocalInstallation) -> None:
        async def scenario() -> None:
            bus, _, gate = await started(installation)
            publishing = asyncio.create_task(bus.publish(sent := messages(6)))
            await gate.begun.wait()
            stopping = asyncio.create_task(bus.stop())
            await asyncio.sleep(0)
            gate.open.set()
            await stopping
            await publishing
            assert gate.seen == ids(sent[:2])
            assert await installation.rows() == (4, 4)
            await bus.publish(late := messages(1))
            assert await installation.rows() == (5, 6), "for both queues"
            consumer = Consumer()
            again = consuming(installation, consumer, "gate")
            await again.start()
            await until(lambda: consumer.seen == ids([*sent[2:], *late]))
            await again.stop()

        self.play(installation, scenario)

    def test_more_than_memory_should_hold_is_stored(self, installation: LocalInstallation) -> None:
        async def scenario() -> None:
            bus, _, gate = await started(installation)
            fitting, rest = messages(READY_LIMIT), messages(10)
            publishing = asyncio.create_task(bus.publish(fitting))
            await gate.begun.wait()
            await bus.publish(rest)
            assert await installation.rows() == (10, 10)
            assert not publishing.done()
            gate.open.set()
            await publishing
            await until(lambda: gate.seen == ids([*fitting, *rest]))
            await bus.stop()

        self.play(installation, scenario)

    def test_what_was_published_first_comes_first_after_a_restart_whatever_was_stored_first(
        self, installation: LocalInstallation
    ) -> None:
        async def scenario() -> None:
            bus, _, gate = await started(installation)
            held, stored = messages(READY_LIMIT), messages(10)
            publishing = asyncio.create_task(bus.publish(held))
            await gate.begun.wait()
            installation.advance(1)
            await bus.publish(stored)
            stopping = asyncio.create_task(bus.stop())
            await asyncio.sleep(0)
            gate.open.set()
            await stopping
            await publishing
            consumer = Consumer()
            again = consuming(installation, consumer, "gate")
            await again.start()
            await until(lambda: len(gate.seen) + len(consumer.seen) == READY_LIMIT + 10)
            await again.stop()
            assert gate.seen + consumer.seen == ids([*held, *stored])

        self.play(installation, scenario)

    def test_what_cannot_be_stored_is_the_publishers_to_publish_again(
        self, installation: LocalInstallation
    ) -> None:
        async def scenario() -> None:
            bus, _, gate = await started(installation, IMPATIENT)
            allow = installation.refuse_deliveries()
            sent = messages(3)
            with pytest.raises(IntegrityError, match="disk full"):
                await bus.publish(sent)
            with pytest.raises(IntegrityError, match="disk full"):
                await bus.publish(sent)
            allow()
            gate.open.set()
            await bus.publish(sent)
            await until(lambda: gate.seen == ids([*sent[:2], *sent]))
            await until_rows(installation, (0, 0))
            gate.open.clear()
            await bus.publish(messages(1))
            assert await installation.rows() == (1, 1), "slow once more"
            gate.open.set()
            await bus.stop()

        self.play(installation, scenario)

    def test_a_failure_that_cannot_be_stored_is_the_publishers_to_publish_again(
        self, installation: LocalInstallation
    ) -> None:
        async def scenario() -> None:
            bus, quick, gate = await started(installation)
            gate.open.set()
            allow = installation.refuse_deliveries()
            (message,) = messages(1)
            quick.fail_with[message.id] = [OSError("down")]
            with pytest.raises(IntegrityError, match="disk full"):
                await bus.publish([message])
            allow()
            await bus.publish([message])
            await until(lambda: quick.seen == [message.id])
            await bus.stop()

        self.play(installation, scenario)

    def test_requeue_is_durable_before_it_returns(self, installation: LocalInstallation) -> None:
        async def scenario() -> None:
            bus, quick, gate = await started(installation)
            await bus.requeue("gate", sent := messages(2))
            assert await installation.rows() == (2, 2)
            gate.open.set()
            await until(lambda: gate.seen == ids(sent))
            await bus.stop()
            assert await installation.rows() == (0, 0)
            assert quick.seen == []

        self.play(installation, scenario)

    def test_a_batch_whose_process_was_killed_is_delivered_again(
        self, installation: LocalInstallation
    ) -> None:
        async def scenario() -> None:
            await killed(installation, KILLED_WHILE_HANDLING)
            assert await installation.rows() == (3, 3)
            installation.advance(60_000)  # the child read the real clock
            consumer = Consumer()
            bus = consuming(installation, consumer)
            await bus.start()
            await until(lambda: consumer.seen == ["msg_0", "msg_1", "msg_2"])
            await bus.stop()
            assert await installation.rows() == (0, 0)

        self.play(installation, scenario)

    def test_killed_between_two_queues_both_have_the_effect_and_each_once(
        self, installation: LocalInstallation
    ) -> None:
        """One queue had handled it, the other was about to: only the outbox knew."""

        async def scenario() -> None:
            await killed(installation, KILLED_DURING_HAND_OVER)
            assert await installation.rows() == (0, 0)
            assert await installation.in_outbox() == 3
            taken: dict[str, list[str]] = {"first": [], "second": []}
            handled = 0
            bus = installation.bus()

            def consumer(name: str) -> Handler:
                async def handler(batch: Sequence[Message]) -> None:
                    nonlocal handled
                    await inbox.once(
                        installation.database, name, batch, lambda _, fresh: taken[name].extend(ids(fresh))
                    )
                    handled += len(batch)

                return handler

            for name in taken:
                bus.subscribe(Subscription(name, ("thing.happened",), consumer(name)))
            relay = installation.relay(bus)
            await bus.start()
            await relay.start()
            await until(lambda: handled == 6)
            await relay.stop()
            await bus.stop()
            assert taken == {"first": [], "second": ["msg_0", "msg_1", "msg_2"]}
            assert await installation.in_outbox() == 0
            assert await installation.rows() == (0, 0)

        self.play(installation, scenario)

    def test_a_delivery_is_never_in_memory_twice(self, installation: LocalInstallation) -> None:
        """Storing races with the queue's own reading of its table."""

        async def scenario() -> None:
            consumer = Consumer()
            bus = installation.bus(poll=0.0005)
            bus.subscribe(Subscription("q", ("thing.happened",), consumer, batch=8))
            await bus.start()
            sent = messages(800)

            async def store(part: Sequence[Message]) -> None:
                for message in part:
                    await bus.requeue("q", [message])

            await asyncio.gather(*(store(sent[start::8]) for start in range(8)))
            await until(lambda: len(consumer.seen) >= 800)
            await bus.stop()
            assert sorted(consumer.seen) == sorted(ids(sent))
            assert await installation.rows() == (0, 0)

        self.play(installation, scenario)

    def test_a_row_read_before_its_writer_hears_of_the_commit_is_not_taken_again(
        self, installation: LocalInstallation
    ) -> None:
        async def scenario() -> None:
            consumer = Consumer()
            database = SlowToAnswer(installation.database)
            bus = LocalBus(database, installation.clock, poll=POLL)
            bus.subscribe(Subscription("q", ("thing.happened",), consumer))
            await bus.start()
            requeueing = asyncio.create_task(bus.requeue("q", sent := messages(2)))
            await until(lambda: consumer.seen == ids(sent))
            database.answer.set()
            await requeueing
            await bus.publish(last := messages(1))
            await until(lambda: last[0].id in consumer.seen)
            await bus.stop()
            assert consumer.seen == ids([*sent, *last])

        self.play(installation, scenario)

    def test_numbers_go_on_after_those_that_a_former_process_gave(
        self, installation: LocalInstallation
    ) -> None:
        async def scenario() -> None:
            await installation.bus().requeue("q", former := messages(5))
            consumer = Consumer()
            bus = installation.bus(poll=NEVER)
            bus.subscribe(Subscription("q", ("thing.happened",), consumer))
            await bus.start()
            await until(lambda: consumer.seen == ids(former))
            await until_rows(installation, (0, 0))
            await bus.requeue("q", new := messages(1))
            await until(lambda: consumer.seen == ids([*former, *new]))
            await bus.stop()

        self.play(installation, scenario)

    @pytest.mark.parametrize("seed", range(4))
    def test_handlers_at_the_edge_of_patience_get_everything_once_and_in_order(
        self, installation: LocalInstallation, seed: int
    ) -> None:
        """Hand-over, storing, and reading back interleave at random."""

        async def scenario() -> None:
            chance = random.Random(seed)
            seen: dict[str, list[str]] = {"a": [], "b": [], "c": []}
            bus = installation.bus(patience=0.004)

            def handler(name: str) -> Handler:
                async def handle(batch: Sequence[Message]) -> None:
                    await asyncio.sleep(chance.choice((0, 0, 0.001, 0.006, 0.012)))
                    seen[name].extend(ids(batch))

                return handle

            for name in seen:
                bus.subscribe(Subscription(name, ("thing.happened",), handler(name), batch=7))
            await bus.start()
            sent = messages(600)
            publishing: list[asyncio.Task[None]] = []
            start = 0
            while start < len(sent):
                size = chance.randint(1, 12)
                publishing.append(asyncio.create_task(bus.publish(sent[start : start + size])))
                start += size
                await asyncio.sleep(chance.choice((0, 0, 0.002, 0.01)))
            await asyncio.gather(*publishing)
            await until(lambda: all(len(of) >= 600 for of in seen.values()))
            await bus.stop()
            assert all(of == ids(sent) for of in seen.values())
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
            await until(lambda: bus.tallies()["q"].dead == 1)
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


async def killed(installation: LocalInstallation, program: str) -> None:
    child = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", program, str(installation.path)], timeout=60, check=False
    )
    assert child.returncode == -signal.SIGKILL


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

KILLED_DURING_HAND_OVER = """
import asyncio, os, pathlib, signal, sys
from yuanlian.kit.clock import SystemClock
from yuanlian.kit.database.sqlite import SqliteDatabase
from yuanlian.kit.messaging import inbox, outbox
from yuanlian.kit.messaging.bus import Subscription
from yuanlian.kit.messaging.local import LocalBus
from yuanlian.kit.messaging.message import Message
from yuanlian.kit.messaging.relay import Relay

async def main():
    database = SqliteDatabase(pathlib.Path(sys.argv[1]))
    handled = asyncio.Event()

    async def first(messages):
        await inbox.once(database, "first", messages, lambda session, fresh: None)
        handled.set()

    async def second(messages):
        await handled.wait()
        os.kill(os.getpid(), signal.SIGKILL)

    bus = LocalBus(database, SystemClock())
    bus.subscribe(Subscription("first", ("thing.happened",), first))
    bus.subscribe(Subscription("second", ("thing.happened",), second))
    await bus.start()
    await asyncio.sleep(0.1)
    await Relay(database, bus, SystemClock()).start()
    sent = [Message(f"msg_{n}", "thing.happened", 0, "tenant_a", None) for n in range(3)]
    await database.write(lambda session: outbox.add(session, sent))
    await asyncio.sleep(30)

asyncio.run(main())
"""
