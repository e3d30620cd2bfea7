"""From the outbox to the bus, whatever fails."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TypeVar

import pytest
from sqlalchemy import insert, update
from sqlalchemy.orm import Session
from tests.unit.kit.messaging.store import Run, effects, ids, in_outbox, leave_effect, messages, until

from yuanlian.kit.clock import ManualClock, SystemClock
from yuanlian.kit.database.database import Database
from yuanlian.kit.messaging import inbox, lease_repository, outbox
from yuanlian.kit.messaging.bus import Subscription
from yuanlian.kit.messaging.dead_letters import DatabaseDeadLetters
from yuanlian.kit.messaging.lease import RelayLease
from yuanlian.kit.messaging.local import LocalBus
from yuanlian.kit.messaging.message import Message
from yuanlian.kit.messaging.relay import Relay
from yuanlian.kit.messaging.tables import OutboxRow, RelayLeaseRow

NEVER = 3600.0
T = TypeVar("T")


class RecordingBus(LocalBus):
    """The local bus with an ear on what is published, and faults on demand."""

    def __init__(self, database: Database) -> None:
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


async def until_empty(database: Database) -> None:
    async def empty() -> bool:
        return await in_outbox(database) == []

    await until(empty)


async def until_behind(relay: Relay, seconds: float) -> None:
    async def is_so() -> bool:
        return relay.behind_s == seconds

    await until(is_so)


def test_an_idle_relay_is_woken_by_the_commit_and_not_by_its_poll(database: Database, run: Run) -> None:
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
    database: Database, run: Run
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


def test_a_row_of_another_process_is_found_without_a_wake(database: Database, run: Run) -> None:
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


def test_a_delay_is_waited_for_by_the_clock(database: Database, run: Run) -> None:
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


def test_how_long_the_oldest_message_has_waited_is_known(database: Database, run: Run) -> None:
    async def scenario() -> None:
        clock = ManualClock(1_000_000)
        bus = RecordingBus(database)
        bus.refuse = 10_000
        relay = Relay(database, bus, clock, poll=0.01)
        await relay.start()
        assert relay.behind_s == 0
        now = clock.now_ms()
        sent = [
            Message("msg_first", "t", now - 2000, "tenant_a", None),
            Message("msg_second", "t", now, "tenant_a", None),
        ]
        await database.write(lambda session: outbox.add(session, sent))
        await until_behind(relay, 2)
        clock.advance(3000)
        await until_behind(relay, 5)
        bus.refuse = 0
        await until_empty(database)
        await until_behind(relay, 0)
        await relay.stop()

    run(scenario)


def test_a_message_that_is_delayed_has_not_waited(database: Database, run: Run) -> None:
    async def scenario() -> None:
        clock = ManualClock(1_000_000)
        bus = RecordingBus(database)
        relay = Relay(database, bus, clock, poll=0.01)
        await relay.start()
        late = Message("msg_late", "t", clock.now_ms(), "tenant_a", None, delay=5000)
        await database.write(lambda session: outbox.add(session, [late]))
        clock.advance(4000)
        await asyncio.sleep(0.05)
        assert relay.behind_s == 0
        bus.refuse = 10_000
        clock.advance(1500)
        await until_behind(relay, 0.5)
        new = Message("msg_new", "t", clock.now_ms(), "tenant_a", None)
        await database.write(lambda session: outbox.add(session, [new]))
        left = bus.refuse

        async def has_tried_twice() -> bool:
            return bus.refuse < left - 1

        await until(has_tried_twice)
        assert relay.behind_s == 0.5  # one that may go at once is read before it, and does not hide it
        await relay.stop()
        assert relay.behind_s == 0

    run(scenario)


def test_a_bus_that_is_away_loses_nothing(database: Database, run: Run) -> None:
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


def counting(database: Database, bus: LocalBus) -> None:
    async def handler(batch: Sequence[Message]) -> None:
        await inbox.once(database, "counter", batch, leave_effect)

    bus.subscribe(Subscription("counter.queue", ("thing.happened",), handler))


async def until_effects(database: Database, count: int) -> list[str]:
    async def there() -> bool:
        return len(await effects(database)) >= count

    await until(there)
    return await effects(database)


def test_a_lost_answer_publishes_again_and_the_effect_is_still_once(database: Database, run: Run) -> None:
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


def test_two_relays_on_one_outbox_lose_nothing_and_repeat_no_effect(database: Database, run: Run) -> None:
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


def test_a_row_that_is_not_a_message_is_put_aside_and_can_be_replayed(database: Database, run: Run) -> None:
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
        (letter,), _ = await DatabaseDeadLetters(database, bus).list()
        assert (letter.queue, letter.message_id, letter.body) == ("outbox", "msg_x", '{"id": 7}')

    run(scenario)


class BusyBus(RecordingBus):
    """Answers for a publication only when it is let go; hears of all of them at once."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.answer = asyncio.Event()
        self.begun: list[str] = []
        self.fail_at_once: str | None = None

    async def publish(self, messages: Sequence[Message]) -> None:
        self.begun.extend(ids(messages))
        if messages[0].id == self.fail_at_once:
            self.fail_at_once = None
            raise ConnectionError("the broker is away")
        await self.answer.wait()
        await super().publish(messages)


async def until_begun(bus: BusyBus, count: int) -> None:
    async def begun() -> bool:
        return len(bus.begun) >= count

    await until(begun)


def test_a_row_stays_until_the_bus_has_answered_and_what_follows_does_not_wait(
    database: Database, run: Run
) -> None:
    async def scenario() -> None:
        bus = BusyBus(database)
        relay = Relay(database, bus, SystemClock(), gather=0.001, poll=0.01)
        await relay.start()
        first, second = messages(3), messages(2)
        await database.write(lambda session: outbox.add(session, first))
        await until_begun(bus, 3)
        await database.write(lambda session: outbox.add(session, second))
        await until_begun(bus, 5)
        await asyncio.sleep(0.05)  # several looks over the whole outbox
        assert bus.begun == ids([*first, *second]), "none twice"
        assert await in_outbox(database) == ids([*first, *second])
        bus.answer.set()
        await until_empty(database)
        await relay.stop()
        assert bus.published == ids([*first, *second])

    run(scenario)


def test_what_comes_after_a_message_that_is_with_the_bus_makes_it_no_younger(
    database: Database, run: Run
) -> None:
    async def scenario() -> None:
        bus, clock = BusyBus(database), ManualClock(1_000_000)
        relay = Relay(database, bus, clock, gather=0.001, poll=NEVER)  # looks only for what was added
        await relay.start()
        for count, age_ms in enumerate((7000, 1000), 1):
            message = Message(f"msg_{count}", "t", clock.now_ms() - age_ms, "tenant_a", None)
            await database.write(lambda session, one=message: outbox.add(session, [one]))  # type: ignore[misc]  # mypy cannot infer a lambda with a default
            await until_begun(bus, count)
        assert relay.behind_s == 7
        bus.answer.set()
        await until_behind(relay, 0)
        await relay.stop()

    run(scenario)


def test_a_bus_that_does_not_answer_gets_only_so_many(
    database: Database, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        monkeypatch.setattr("yuanlian.kit.messaging.relay.IN_FLIGHT", 10)
        bus = BusyBus(database)
        relay = Relay(database, bus, SystemClock(), batch=4, gather=0.001, poll=0.01)
        await relay.start()
        sent = messages(25)
        await database.write(lambda session: outbox.add(session, sent))
        await until_begun(bus, 10)
        await asyncio.sleep(0.05)
        assert bus.begun == ids(sent[:10])
        bus.answer.set()
        await until_empty(database)
        await relay.stop()
        assert bus.published == ids(sent)

    run(scenario)


def test_a_delay_that_ends_while_others_are_in_flight_is_not_forgotten(database: Database, run: Run) -> None:
    async def scenario() -> None:
        clock = ManualClock(1_000_000)
        bus = BusyBus(database)
        relay = Relay(database, bus, clock, batch=2, gather=0.001, poll=0.01)
        await relay.start()
        late = Message("msg_late", "t", clock.now_ms(), "tenant_a", None, delay=5000)
        sent = messages(6)
        await database.write(lambda session: outbox.add(session, [late, *sent]))
        await until_begun(bus, 6)
        clock.advance(5000)
        await until_begun(bus, 7)
        assert bus.begun == [*ids(sent), late.id]
        bus.answer.set()
        await until_empty(database)
        await relay.stop()

    run(scenario)


def test_what_failed_is_published_again_from_the_first(database: Database, run: Run) -> None:
    async def scenario() -> None:
        bus = BusyBus(database)
        relay = Relay(database, bus, SystemClock(), batch=2, gather=0.001, poll=NEVER)
        sent = messages(6)
        await database.write(lambda session: outbox.add(session, sent))
        await relay.start()
        await until_begun(bus, 6)
        bus.refuse = 3
        bus.answer.set()
        await asyncio.sleep(0)
        bus.answer.clear()
        await until_begun(bus, 12)
        assert bus.begun == ids([*sent, *sent])
        bus.answer.set()
        await until_empty(database)
        await relay.stop()
        assert bus.published == ids(sent)

    run(scenario)


def test_nothing_new_is_published_while_something_failed_and_something_is_in_flight(
    database: Database, run: Run
) -> None:
    async def scenario() -> None:
        bus = BusyBus(database)
        relay = Relay(database, bus, SystemClock(), batch=2, gather=0.001, poll=0.01)
        failing, in_flight, new = messages(2), messages(2), messages(4)
        bus.fail_at_once = failing[0].id
        await database.write(lambda session: outbox.add(session, [*failing, *in_flight]))
        await relay.start()
        await until_begun(bus, 4)
        await database.write(lambda session: outbox.add(session, new))
        await asyncio.sleep(0.3)
        assert bus.begun == ids([*failing, *in_flight])
        bus.answer.set()
        await until_empty(database)
        await relay.stop()
        assert bus.begun == ids([*failing, *in_flight, *failing, *new])

    run(scenario)


class CountedDatabase:
    """Counts the transactions of whoever is given this one."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.read, self.ping, self.close = database.read, database.ping, database.close
        self.writes = 0

    async def write(self, work: Callable[[Session], T], *, repeatable: bool = False) -> T:
        self.writes += 1
        return await self._database.write(work)


class FlakyDatabase(CountedDatabase):
    fail_next = False

    async def write(self, work: Callable[[Session], T], *, repeatable: bool = False) -> T:
        if self.fail_next:
            self.fail_next = False
            raise OSError("disk full")
        return await super().write(work)


def test_what_was_published_is_deleted_once_the_database_is_back(database: Database, run: Run) -> None:
    async def scenario() -> None:
        flaky, bus = FlakyDatabase(database), BusyBus(database)
        relay = Relay(flaky, bus, SystemClock(), poll=NEVER)
        await relay.start()
        sent = messages(3)
        await database.write(lambda session: outbox.add(session, sent))
        await until_begun(bus, 3)
        flaky.fail_next = True
        bus.answer.set()
        await until_empty(database)
        await relay.stop()
        assert bus.begun == ids(sent)

    run(scenario)


def test_a_wake_costs_a_look_to_take_and_a_look_to_delete(database: Database, run: Run) -> None:
    async def scenario() -> None:
        counted = CountedDatabase(database)
        relay = Relay(counted, RecordingBus(database), SystemClock(), poll=NEVER)
        await relay.start()
        for wakes in range(1, 6):
            await database.write(lambda session: outbox.add(session, messages(3)))
            await until_empty(database)
            await asyncio.sleep(0.05)
            # Besides the look at the start, and one more where the wake came before its commit was visible.
            assert counted.writes <= 1 + 3 * wakes
        await relay.stop()

    run(scenario)


def test_stop_leaves_nothing_published_in_the_outbox(database: Database, run: Run) -> None:
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


def test_of_two_relays_with_a_lease_one_publishes_and_the_other_takes_over(
    database: Database, run: Run
) -> None:
    async def scenario() -> None:
        first, second = RecordingBus(database), RecordingBus(database)
        relays = [
            Relay(database, bus, SystemClock(), poll=0.01, lease=RelayLease(database, ttl_s=0.3))
            for bus in (first, second)
        ]
        await relays[0].start()
        await until_held(database)
        await relays[1].start()
        before = messages(200)
        for start in range(0, 200, 10):
            await database.write(lambda s, part=before[start : start + 10]: outbox.add(s, part))  # type: ignore[misc]  # mypy cannot infer a lambda with a default
        await until_empty(database)
        assert (first.published, second.published) == (ids(before), [])
        await relays[0].stop()
        after = messages(3)
        await database.write(lambda session: outbox.add(session, after))
        await until_empty(database)
        assert second.published == ids(after)
        assert first.published == ids(before)
        await relays[1].stop()

    run(scenario)


def test_a_relay_that_stands_by_does_not_know_how_old_the_oldest_message_is(
    database: Database, run: Run
) -> None:
    async def scenario() -> None:
        bus, clock = RecordingBus(database), ManualClock(1_000_000)
        bus.refuse = 10_000
        relay = Relay(database, bus, clock, poll=0.01, lease=RelayLease(database, ttl_s=0.3))
        await relay.start()
        sent = Message("msg", "t", clock.now_ms() - 7000, "tenant_a", None)
        await database.write(lambda session: outbox.add(session, [sent]))
        await until_behind(relay, 7)
        lost = update(RelayLeaseRow).values(owner="another", beat=RelayLeaseRow.beat + 1)
        await database.write(lambda session: session.execute(lost))
        await until_behind(relay, 0)
        await relay.stop()

    run(scenario)


def test_the_lease_of_a_process_that_is_gone_is_taken_over_and_of_a_living_one_is_not(
    database: Database, run: Run
) -> None:
    async def scenario() -> None:
        gone, living = RelayLease(database, ttl_s=0.2), RelayLease(database, ttl_s=0.2)
        assert await gone.held()
        for _ in range(5):
            assert not await living.held()
            await asyncio.sleep(0.07)
            assert await gone.held()
        async with asyncio.timeout(10):
            while not await living.held():  # ``gone`` asks no more
                await asyncio.sleep(0.02)
        await asyncio.sleep(0.1)
        assert not await gone.held(), "it hears that it has been replaced"

    run(scenario)


def test_a_lease_that_was_given_back_is_free_at_once(database: Database, run: Run) -> None:
    async def scenario() -> None:
        former, next_ = RelayLease(database, ttl_s=NEVER), RelayLease(database, ttl_s=NEVER)
        assert await former.held()
        await former.release()
        assert await next_.held()

    run(scenario)


async def until_held(database: Database) -> None:
    async def held() -> bool:
        lease = await database.read(lease_repository.select_lease)
        return lease is not None and lease.owner != ""

    await until(held)
