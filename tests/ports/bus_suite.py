"""What every ``Bus`` promises, whatever carries it. An adapter's test class gives ``installation``."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import pytest

from yuanlian.kit.context import current
from yuanlian.kit.database.database import Database
from yuanlian.kit.errors import ConflictError, DependencyAwayError, ServiceUnavailableError
from yuanlian.kit.messaging import inbox, outbox
from yuanlian.kit.messaging.bus import Bus, BusUnavailableError, Subscription
from yuanlian.kit.messaging.dead_letters import DeadLetters
from yuanlian.kit.messaging.message import Message
from yuanlian.kit.messaging.relay import Relay
from yuanlian.kit.messaging.repository import DeadLetter


class Installation(Protocol):
    """One durable store; every ``bus()`` is a new process's bus on it."""

    @property
    def database(self) -> Database: ...

    def bus(self) -> Bus: ...

    def relay(self, bus: Bus) -> Relay: ...

    def dead_letters(self, bus: Bus) -> DeadLetters: ...

    def now_ms(self) -> int: ...

    def advance(self, ms: int) -> None:
        """Lets so much time pass for delays and retries."""
        ...

    async def close(self) -> None: ...


class Consumer:
    """A handler that remembers what it got, and fails as told: ``fail_with[message id]`` holds the
    errors of the next attempts at that message alone."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.calls: list[list[str]] = []
        self.fail_with: dict[str, list[Exception]] = {}

    async def __call__(self, messages: Sequence[Message]) -> None:
        ids = [message.id for message in messages]
        self.calls.append(ids)
        for id_ in ids:
            if errors := self.fail_with.get(id_):
                raise errors.pop(0) if len(ids) == 1 else errors[0]
        self.seen.extend(ids)


class Outage(Consumer):
    """One whose database is away until it is ``over``."""

    def __init__(self) -> None:
        super().__init__()
        self.refused = 0
        self.over = False

    async def __call__(self, messages: Sequence[Message]) -> None:
        if not self.over:
            self.refused += 1
            raise DependencyAwayError
        await super().__call__(messages)


async def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        await asyncio.sleep(0.002)


def messages(count: int, type_: str = "thing.happened", **fields: Any) -> list[Message]:
    return [Message.new(type_, "tenant_a", {"n": n}, **fields) for n in range(count)]


def ids(of: Sequence[Message]) -> list[str]:
    return [message.id for message in of]


async def dead_of(installation: Installation, bus: Bus, queue: str) -> list[DeadLetter]:
    found, _ = await installation.dead_letters(bus).list(200, queue=queue)
    return found


async def until_dead(installation: Installation, bus: Bus, count: int, queue: str = "q") -> list[DeadLetter]:
    deadline = time.monotonic() + 60
    while len(found := await dead_of(installation, bus, queue)) < count:
        assert time.monotonic() < deadline, "it did not die"
        await asyncio.sleep(0.005)
    return found


async def until_published(bus: Bus, message: Message) -> None:
    """Once the broker can be used."""
    while True:
        try:
            await bus.publish([message])
        except BusUnavailableError:
            await asyncio.sleep(0.02)
        else:
            return


def consuming(installation: Installation, consumer: Any, queue: str = "q", batch: int = 128) -> Bus:
    bus = installation.bus()
    bus.subscribe(Subscription(queue, ("thing.happened",), consumer, batch))
    return bus


class BusSuite:
    @pytest.fixture
    def installation(self) -> Installation:
        raise NotImplementedError("an adapter's class gives its own")

    def play(self, installation: Installation, scenario: Callable[[], Any]) -> None:
        async def run() -> None:
            try:
                await asyncio.wait_for(scenario(), 120)
            finally:
                await installation.close()

        asyncio.run(run())

    def test_a_message_reaches_every_queue_bound_to_its_type_and_no_other(
        self, installation: Installation
    ) -> None:
        async def scenario() -> None:
            first, second, other = Consumer(), Consumer(), Consumer()
            bus = installation.bus()
            bus.subscribe(Subscription("first", ("thing.happened",), first))
            bus.subscribe(Subscription("second", ("thing.happened", "other.happened"), second))
            bus.subscribe(Subscription("other", ("other.happened",), other))
            await bus.start()
            sent = messages(3)
            await bus.publish(sent)
            await until(lambda: len(first.seen) == 3 and len(second.seen) == 3)
            await bus.stop()
            assert first.seen == second.seen == ids(sent)
            assert other.seen == []

        self.play(installation, scenario)

    def test_a_message_arrives_as_it_was_sent(self, installation: Installation) -> None:
        async def scenario() -> None:
            got: list[Message] = []

            async def handler(batch: Sequence[Message]) -> None:
                got.extend(batch)

            sender = consuming(installation, handler)
            sent = Message.new("thing.happened", "tenant_a", {"name": "小一班", "n": [1, None]}, retry=7)
            await sender.publish([sent])
            # Another process's bus, so that it comes from the store and not from memory.
            bus = consuming(installation, handler)
            await bus.start()
            await until(lambda: len(got) == 1)
            await bus.stop()
            assert got == [sent]

        self.play(installation, scenario)

    def test_a_message_that_no_queue_wants_is_dropped(self, installation: Installation) -> None:
        async def scenario() -> None:
            consumer = Consumer()
            bus = consuming(installation, consumer)
            await bus.start()
            wanted = messages(1)
            await bus.publish([*messages(1, "nobody.cares"), *wanted])
            await until(lambda: len(consumer.seen) == 1)
            await bus.stop()
            assert consumer.seen == ids(wanted)

        self.play(installation, scenario)

    def test_order_holds_while_nothing_fails(self, installation: Installation) -> None:
        async def scenario() -> None:
            consumer = Consumer()
            bus = consuming(installation, consumer, batch=16)
            sent = messages(300)
            await bus.publish(sent[:100])
            await bus.start()
            for start in range(100, 300, 20):
                await bus.publish(sent[start : start + 20])
            await until(lambda: len(consumer.seen) == 300)
            await bus.stop()
            assert consumer.seen == ids(sent)
            assert max(map(len, consumer.calls)) <= 16

        self.play(installation, scenario)

    def test_order_holds_through_a_backlog_larger_than_memory(self, installation: Installation) -> None:
        async def scenario() -> None:
            consumer = Consumer()
            bus = consuming(installation, consumer)
            await bus.start()
            sent = messages(3000)
            for start in range(0, 3000, 500):
                await bus.publish(sent[start : start + 500])
            await until(lambda: len(consumer.seen) == 3000)
            await bus.stop()
            assert consumer.seen == ids(sent)

        self.play(installation, scenario)

    def test_what_was_published_before_a_restart_is_delivered_after_it(
        self, installation: Installation
    ) -> None:
        async def scenario() -> None:
            consumer = Consumer()
            await consuming(installation, consumer).publish(sent := messages(5))
            bus = consuming(installation, consumer)
            await bus.start()
            await until(lambda: len(consumer.seen) == 5)
            await bus.stop()
            assert consumer.seen == ids(sent)

        self.play(installation, scenario)

    def test_what_is_published_after_a_stop_waits_for_the_next_start(
        self, installation: Installation
    ) -> None:
        async def scenario() -> None:
            consumer = Consumer()
            bus = consuming(installation, consumer)
            await bus.start()
            await bus.publish(before := messages(1))
            await until(lambda: len(consumer.seen) == 1)
            await bus.stop()
            await bus.publish(after := messages(2))
            assert consumer.seen == ids(before)
            await bus.start()
            await until(lambda: consumer.seen == ids([*before, *after]))
            await bus.stop()

        self.play(installation, scenario)

    def test_what_was_handled_is_not_delivered_again_after_a_restart(
        self, installation: Installation
    ) -> None:
        async def scenario() -> None:
            before, after = Consumer(), Consumer()
            bus = consuming(installation, before)
            await bus.start()
            await bus.publish(messages(5))
            await until(lambda: len(before.seen) == 5)
            await bus.stop()
            bus = consuming(installation, after)
            await bus.start()
            await bus.publish(new := messages(1))
            await until(lambda: len(after.seen) == 1)
            await bus.stop()
            assert after.seen == ids(new)

        self.play(installation, scenario)

    def test_stop_finishes_the_batch_at_hand(self, installation: Installation) -> None:
        async def scenario() -> None:
            begun, finish = asyncio.Event(), asyncio.Event()
            finished: list[str] = []

            async def slow(batch: Sequence[Message]) -> None:
                begun.set()
                await finish.wait()
                finished.extend(ids(batch))

            bus = consuming(installation, slow)
            await bus.start()
            await bus.publish(sent := messages(1))
            await begun.wait()
            stopping = asyncio.create_task(bus.stop())
            await asyncio.sleep(0)
            finish.set()
            await stopping
            assert finished == ids(sent)

        self.play(installation, scenario)

    def test_a_slow_handler_holds_up_neither_its_publisher_nor_another_queue(
        self, installation: Installation
    ) -> None:
        async def scenario() -> None:
            finish = asyncio.Event()
            slow_seen: list[str] = []
            quick = Consumer()

            async def slow(batch: Sequence[Message]) -> None:
                await finish.wait()
                slow_seen.extend(ids(batch))

            bus = installation.bus()
            bus.subscribe(Subscription("slow", ("thing.happened",), slow, batch=2))
            bus.subscribe(Subscription("quick", ("thing.happened",), quick))
            await bus.start()
            sent = messages(60)
            async with asyncio.timeout(20):
                for start in range(0, 60, 2):
                    await bus.publish(sent[start : start + 2])
            await until(lambda: quick.seen == ids(sent))
            assert slow_seen == []
            finish.set()
            await until(lambda: slow_seen == ids(sent))
            await bus.stop()

        self.play(installation, scenario)

    def test_calls_that_overlap_keep_their_order(self, installation: Installation) -> None:
        async def scenario() -> None:
            consumer = Consumer()
            bus = consuming(installation, consumer, batch=4)
            await bus.start()
            sent = messages(200)
            await asyncio.gather(*(bus.publish(sent[start : start + 10]) for start in range(0, 200, 10)))
            await until(lambda: len(consumer.seen) == 200)
            await bus.stop()
            assert consumer.seen == ids(sent)

        self.play(installation, scenario)

    def test_a_transient_error_is_retried_after_1_5_30_and_300_seconds_then_dies(
        self, installation: Installation
    ) -> None:
        async def scenario() -> None:
            consumer = Consumer()
            (message,) = messages(1, retry=5)
            consumer.fail_with[message.id] = [ServiceUnavailableError() for _ in range(6)]
            bus = consuming(installation, consumer)
            await bus.start()
            await bus.publish([message])
            for attempt, seconds in enumerate((1, 5, 30, 300, 300), 1):
                await until(lambda attempt=attempt: len(consumer.calls) == attempt)  # type: ignore[misc]  # mypy cannot infer a lambda with a default
                installation.advance(seconds * 1000 - 1)
                await asyncio.sleep(0.03)
                assert len(consumer.calls) == attempt, "too early"
                installation.advance(1)
            (dead,) = await until_dead(installation, bus, 1)
            await bus.stop()
            assert len(consumer.calls) == 6
            assert dead.attempts == 6
            assert dead.message_id == message.id
            assert "ServiceUnavailableError" in dead.reason

        self.play(installation, scenario)

    def test_a_retry_that_succeeds_ends_it(self, installation: Installation) -> None:
        async def scenario() -> None:
            consumer = Consumer()
            (message,) = messages(1)
            consumer.fail_with[message.id] = [OSError("down")]
            bus = consuming(installation, consumer)
            await bus.start()
            await bus.publish([message])
            await until(lambda: len(consumer.calls) == 1)
            installation.advance(1000)
            await until(lambda: consumer.seen == [message.id])
            await bus.stop()
            assert await dead_of(installation, bus, "q") == []

        self.play(installation, scenario)

    def test_an_outage_of_what_the_handler_needs_costs_no_message_its_retries(
        self, installation: Installation
    ) -> None:
        """Counted as failures of the messages, an outage of 40 s put thousands of them among the dead."""

        async def scenario() -> None:
            consumer, other = Outage(), Consumer()
            bus = consuming(installation, consumer)
            bus.subscribe(Subscription("other", ("thing.happened",), other))
            await bus.start()
            sent = messages(5, retry=0)
            publishing = asyncio.create_task(bus.publish(sent))
            await until(lambda: consumer.refused >= 4)
            later = messages(5, retry=0)
            publishing_more = asyncio.create_task(bus.publish(later))
            await until(lambda: len(other.seen) == 10)  # another queue is not held up
            consumer.over = True
            await until(lambda: len(consumer.seen) == 10)
            await publishing
            await publishing_more
            assert consumer.seen == ids(sent) + ids(later)
            await bus.stop()
            assert await dead_of(installation, bus, "q") == []

        self.play(installation, scenario)

    def test_what_waits_for_the_end_of_an_outage_survives_a_restart(self, installation: Installation) -> None:
        async def scenario() -> None:
            consumer = Outage()
            bus = consuming(installation, consumer)
            await bus.start()
            sent = messages(3, retry=0)
            publishing = asyncio.create_task(bus.publish(sent))
            await until(lambda: consumer.refused >= 2)
            await bus.stop()
            await publishing
            assert consumer.seen == []
            again = Consumer()
            bus = consuming(installation, again)
            await bus.start()
            await until(lambda: len(again.seen) == 3)
            await bus.stop()
            assert again.seen == ids(sent)

        self.play(installation, scenario)

    def test_what_became_of_messages_is_counted(self, installation: Installation) -> None:
        async def scenario() -> None:
            consumer = Consumer()
            sent = messages(10)
            consumer.fail_with[sent[3].id] = [ConflictError()]
            consumer.fail_with[sent[7].id] = [OSError("down")]
            bus = consuming(installation, consumer)
            await bus.publish(sent)  # before the start, so that they are one batch
            await bus.start()
            tally = bus.tallies()["q"]
            await until(lambda: tally.retried == tally.dead == 1)
            installation.advance(1000)
            await until(lambda: tally.done == 9)
            await bus.stop()
            assert (tally.done, tally.retried, tally.dead) == (9, 1, 1)

        self.play(installation, scenario)

    def test_a_queue_that_stands_still_says_for_how_long(self, installation: Installation) -> None:
        async def scenario() -> None:
            consumer = Outage()
            bus = consuming(installation, consumer)
            await bus.start()
            tally = bus.tallies()["q"]
            assert tally.stalled_s == 0
            publishing = asyncio.create_task(bus.publish(messages(1)))
            await until(lambda: consumer.refused >= 2)
            assert tally.stalled_s > 0
            consumer.over = True
            await until(lambda: tally.done == 1 and tally.stalled_s == 0)
            await publishing
            await bus.stop()

        self.play(installation, scenario)

    def test_a_retry_survives_a_restart(self, installation: Installation) -> None:
        async def scenario() -> None:
            consumer = Consumer()
            (message,) = messages(1)
            consumer.fail_with[message.id] = [OSError("down")]
            bus = consuming(installation, consumer)
            await bus.start()
            await bus.publish([message])
            await until(lambda: len(consumer.calls) == 1)
            await bus.stop()
            bus = consuming(installation, consumer)
            await bus.start()
            installation.advance(1000)
            await until(lambda: consumer.seen == [message.id])
            await bus.stop()

        self.play(installation, scenario)

    @pytest.mark.parametrize("retry", [0, 3])
    def test_a_permanent_error_dies_at_once(self, installation: Installation, retry: int) -> None:
        async def scenario() -> None:
            consumer = Consumer()
            (message,) = messages(1, retry=retry)
            consumer.fail_with[message.id] = [ConflictError()]
            bus = consuming(installation, consumer)
            await bus.start()
            await bus.publish([message])
            (dead,) = await until_dead(installation, bus, 1)
            await bus.stop()
            assert (dead.queue, dead.attempts) == ("q", 1)
            assert len(consumer.calls) == 1

        self.play(installation, scenario)

    def test_a_poison_message_holds_no_other_back(self, installation: Installation) -> None:
        async def scenario() -> None:
            consumer = Consumer()
            sent = messages(20)
            consumer.fail_with[sent[3].id] = [ConflictError(), ConflictError()]
            consumer.fail_with[sent[7].id] = [OSError("down"), OSError("down")]
            bus = consuming(installation, consumer)
            await bus.publish(sent)
            await bus.start()
            await until(lambda: len(consumer.seen) == 18)
            await bus.publish(later := messages(1))
            await until(lambda: later[0].id in consumer.seen)
            (dead,) = await until_dead(installation, bus, 1)
            await bus.stop()
            assert dead.message_id == sent[3].id
            assert consumer.seen[:18] == [id_ for n, id_ in enumerate(ids(sent)) if n not in {3, 7}]

        self.play(installation, scenario)

    def test_one_queue_failing_does_not_touch_another(self, installation: Installation) -> None:
        async def scenario() -> None:
            good, bad = Consumer(), Consumer()
            bus = installation.bus()
            bus.subscribe(Subscription("good", ("thing.happened",), good))
            bus.subscribe(Subscription("bad", ("thing.happened",), bad))
            (message,) = messages(1)
            bad.fail_with[message.id] = [ConflictError()]
            await bus.start()
            await bus.publish([message])
            await until_dead(installation, bus, 1, "bad")
            await until(lambda: good.seen == [message.id])
            await bus.stop()

        self.play(installation, scenario)

    def test_a_replayed_dead_letter_returns_to_its_own_queue_with_a_new_budget(
        self, installation: Installation
    ) -> None:
        async def scenario() -> None:
            mended, other = Consumer(), Consumer()
            bus = installation.bus()
            bus.subscribe(Subscription("mended", ("thing.happened",), mended))
            bus.subscribe(Subscription("other", ("thing.happened",), other))
            (message,) = messages(1, retry=1)
            mended.fail_with[message.id] = [ConflictError(), OSError("once more")]
            await bus.start()
            await bus.publish([message])
            (dead,) = await until_dead(installation, bus, 1, "mended")
            assert await installation.dead_letters(bus).replay([dead.id]) == 1
            await until(lambda: len(mended.calls) == 2)
            installation.advance(1000)
            await until(lambda: mended.seen == [message.id])
            await bus.stop()
            assert other.seen == [message.id]
            assert await dead_of(installation, bus, "mended") == []

        self.play(installation, scenario)

    def test_the_handler_of_a_message_serves_its_request(self, installation: Installation) -> None:
        async def scenario() -> None:
            served: list[str] = []

            async def handler(batch: Sequence[Message]) -> None:
                served.append(current().request_id)

            bus = consuming(installation, handler)
            await bus.start()
            await bus.publish(sent := messages(1))
            await until(lambda: len(served) == 1)
            await bus.stop()
            assert served == [sent[0].requestId]

        self.play(installation, scenario)

    def test_a_delayed_message_waits_in_the_outbox_and_holds_no_other_back(
        self, installation: Installation
    ) -> None:
        async def scenario() -> None:
            consumer = Consumer()
            bus = consuming(installation, consumer)
            relay = installation.relay(bus)
            await bus.start()
            await relay.start()
            at = installation.now_ms()
            late = Message("msg_late", "thing.happened", at, "tenant_a", None, delay=60_000)
            (prompt,) = messages(1)
            await installation.database.write(lambda s: outbox.add(s, [late, prompt]))
            await until(lambda: consumer.seen == [prompt.id])
            installation.advance(59_999)
            await asyncio.sleep(0.03)
            assert consumer.seen == [prompt.id]
            installation.advance(1)
            await until(lambda: consumer.seen == [prompt.id, late.id])
            await relay.stop()
            await bus.stop()

        self.play(installation, scenario)

    def test_redelivery_changes_nothing_twice(self, installation: Installation) -> None:
        async def scenario() -> None:
            taken: list[str] = []
            deliveries = 0

            async def handler(batch: Sequence[Message]) -> None:
                nonlocal deliveries
                deliveries += len(batch)
                await inbox.once(
                    installation.database, "counter", batch, lambda _, fresh: taken.extend(ids(fresh))
                )

            bus = consuming(installation, handler)
            await bus.start()
            sent = messages(10)
            for _ in range(3):
                await bus.publish(sent)
            await until(lambda: deliveries == 30)
            await bus.stop()
            assert taken == ids(sent)

        self.play(installation, scenario)
