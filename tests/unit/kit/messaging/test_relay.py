"""From the outbox to the bus, whatever fails."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from sqlalchemy import insert
from tests.unit.kit.messaging.store import Run, effects, ids, in_outbox, leave_effect, messages, until

from yuanlian.kit.clock import ManualClock, SystemClock
from yuanlian.kit.database.sqlite import SqliteDatabase
from yuanlian.kit.messaging import inbox, outbox
from yuanlian.kit.messaging.bus import Subscription
from yuanlian.kit.messaging.dead_letters import DeadLetters
from yuanlian.kit.messaging.local import LocalBus
from yuanlian.kit.messaging.message import Message
from yuanlian.kit.messaging.relay import Relay
from yuanlian.kit.messaging.tables import OutboxRow

NEVER = 3600.0


class RecordingBus(LocalBus):
    """The local bus with an ear on what is published, and faults on demand."""

    def __init__(self, database: SqliteDatabase) -> None:
        super().__init__(database, SystemClock(), poll=0.01)
        self.published: list[str] = []
        self.batches: list[int] = []
        self.refuse = 0
        self.lose_answer = 0

    async def publish(self, messages: Sequence[Message]) -> None:
        if self.refuse:
            self.refuse -= 1
            raise ConnectionError("the broker is away")
        await super().publish(messages)
        self.published.extend(ids(messages))
        self.batches.append(len(messages))
        if self.lose_answer:
            self.lose_answer -= 1
            raise ConnectionError("the broker went away before it answered")


async def until_empty(database: SqliteDatabase) -> None:
    async def empty() -> bool:
        return await in_outbox(database) == []

    await until(empty)


def test_an_idle_relay_is_woken_by_the_commit_and_not_by_its_poll(database: SqliteDatabase, run: Run) -> None:
    async def scenario() -> None:
        bus = RecordingBus(database)
        relay = Relay(database, bus, SystemClock(), poll=NEVER)
        await relay.start()
        sent = messages(5)
        for message in sent:
            await asyncio.sleep(0.01)
            await database.write(lambda session, one=message: outbox.add(session, [one]))  # type: ignore[misc]  # mypy cannot infer a lambda with a default
        await until_empty(database)
        await relay.stop()
        assert bus.published == ids(sent)

    run(scenario)


def test_what_was_left_in_the_outbox_is_published_in_order_after_a_start(
    database: SqliteDatabase, run: Run
) -> None:
    async def scenario() -> None:
        sent = messages(25)
        await database.write(lambda session: outbox.add(session, sent))
        bus = RecordingBus(database)
        relay = Relay(database, bus, SystemClock(), batch=10)
        await relay.start()
        await until_empty(database)
        await relay.stop()
        assert bus.published == ids(sent)
        assert bus.batches == [10, 10, 5]

    run(scenario)


def test_a_row_of_another_process_is_found_without_a_wake(database: SqliteDatabase, run: Run) -> None:
    async def scenario() -> None:
        bus = RecordingBus(database)
        relay = Relay(database, bus, SystemClock(), poll=0.01)
        await relay.start()
        await asyncio.sleep(0.03)
        row = {
            "message_id": "msg_x",
            "due_at": 0,
            "body": '{"id":"msg_x","type":"t","timestamp":0,"tenantId":"a","data":null}',
        }
        await database.write(lambda session: session.execute(insert(OutboxRow), [row]))
        await until_empty(database)
        await relay.stop()
        assert bus.published == ["msg_x"]

    run(scenario)


def test_a_delay_is_waited_for_by_the_clock(database: SqliteDatabase, run: Run) -> None:
    async def scenario() -> None:
        clock = ManualClock(1_000_000)
        bus = RecordingBus(database)
        relay = Relay(database, bus, clock, poll=0.01)
        await relay.start()
        late = Message("msg_late", "t", clock.now_ms(), "tenant_a", None, delay=5000)
        await database.write(lambda session: outbox.add(session, [late]))
        clock.advance(4999)
        await asyncio.sleep(0.03)
        assert bus.published == []
        clock.advance(1)
        await until_empty(database)
        await relay.stop()
        assert bus.published == ["msg_late"]

    run(scenario)


def test_a_bus_that_is_away_loses_nothing(database: SqliteDatabase, run: Run) -> None:
    async def scenario() -> None:
        bus = RecordingBus(database)
        bus.refuse = 2
        relay = Relay(database, bus, SystemClock())
        await relay.start()
        sent = messages(3)
        await database.write(lambda session: outbox.add(session, sent))
        await until_empty(database)
        await relay.stop()
        assert bus.published == ids(sent)

    run(scenario)


def counting(database: SqliteDatabase, bus: LocalBus) -> None:
    async def handler(batch: Sequence[Message]) -> None:
        await inbox.once(database, "counter", batch, leave_effect)

    bus.subscribe(Subscription("counter.queue", ("thing.happened",), handler))


async def until_effects(database: SqliteDatabase, count: int) -> list[str]:
    async def there() -> bool:
        return len(await effects(database)) >= count

    await until(there)
    return await effects(database)


def test_a_lost_answer_publishes_again_and_the_effect_is_still_once(
    database: SqliteDatabase, run: Run
) -> None:
    async def scenario() -> None:
        bus = RecordingBus(database)
        counting(database, bus)
        bus.lose_answer = 1
        relay = Relay(database, bus, SystemClock())
        await bus.start()
        await relay.start()
        sent = messages(3)
        await database.write(lambda session: outbox.add(session, sent))
        await until_empty(database)
        await until_effects(database, 3)
        await relay.stop()
        await bus.stop()
        assert bus.published == ids(sent) * 2
        assert await effects(database) == ids(sent)

    run(scenario)


def test_two_relays_on_one_outbox_lose_nothing_and_repeat_no_effect(
    database: SqliteDatabase, run: Run
) -> None:
    async def scenario() -> None:
        bus = RecordingBus(database)
        counting(database, bus)
        relays = [Relay(database, bus, SystemClock(), batch=7) for _ in range(2)]
        await bus.start()
        for relay in relays:
            await relay.start()
        sent = messages(200)
        for start in range(0, 200, 10):
            part = sent[start : start + 10]
            await database.write(lambda session, part=part: outbox.add(session, part))  # type: ignore[misc]  # mypy cannot infer a lambda with a default
        await until_empty(database)
        await until_effects(database, 200)
        for relay in relays:
            await relay.stop()
        await bus.stop()
        assert sorted(await effects(database)) == sorted(ids(sent))

    run(scenario)


def test_a_row_that_is_not_a_message_is_put_aside_and_can_be_replayed(
    database: SqliteDatabase, run: Run
) -> None:
    async def scenario() -> None:
        bus = RecordingBus(database)
        row = {"message_id": "msg_x", "due_at": 0, "body": '{"id": 7}'}
        await database.write(lambda session: session.execute(insert(OutboxRow), [row]))
        sent = messages(1)
        await database.write(lambda session: outbox.add(session, sent))
        relay = Relay(database, bus, SystemClock())
        await relay.start()
        await until_empty(database)
        await relay.stop()
        assert bus.published == ids(sent)
        (letter,), _ = await DeadLetters(database, bus).list()
        assert (letter.queue, letter.message_id, letter.body) == ("outbox", "msg_x", '{"id": 7}')

    run(scenario)


def test_stop_leaves_nothing_published_in_the_outbox(database: SqliteDatabase, run: Run) -> None:
    async def scenario() -> None:
        bus = RecordingBus(database)
        relay = Relay(database, bus, SystemClock(), gather=NEVER)
        await relay.start()
        await database.write(lambda session: outbox.add(session, messages(3)))

        async def published() -> bool:
            return len(bus.published) == 3

        await until(published)
        await relay.stop()
        assert await in_outbox(database) == []

    run(scenario)
