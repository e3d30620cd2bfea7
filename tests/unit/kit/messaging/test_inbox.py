"""Exactly once in effect."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from sqlalchemy import func, insert, select
from sqlalchemy.orm import Session
from tests.unit.kit.messaging.store import Run, effects, ids, leave_effect, messages

from yuanlian.kit.clock import SystemClock
from yuanlian.kit.database.database import Database
from yuanlian.kit.messaging import inbox
from yuanlian.kit.messaging.message import Message
from yuanlian.kit.messaging.tables import InboxRow
from yuanlian.kit.tenancy.scope import current_scope


def test_a_redelivered_message_has_no_second_effect(database: Database, run: Run) -> None:
    async def scenario() -> None:
        first, both = messages(1), messages(1)
        both += first
        await inbox.once(database, "counter", first, leave_effect)
        await inbox.once(database, "counter", both, leave_effect)
        assert sorted(await effects(database)) == sorted(ids(both))

    run(scenario)


def test_each_consumer_takes_it_once(database: Database, run: Run) -> None:
    async def scenario() -> None:
        sent = messages(1)
        for consumer in ("counter", "notifier", "counter"):
            await inbox.once(database, consumer, sent, leave_effect)
        assert await effects(database) == ids(sent) * 2

    run(scenario)


def test_work_that_raises_leaves_nothing_and_may_be_tried_again(database: Database, run: Run) -> None:
    async def scenario() -> None:
        sent = messages(2)

        def fails(session: Session, fresh: Sequence[Message]) -> None:
            leave_effect(session, fresh)
            raise LookupError

        with pytest.raises(LookupError):
            await inbox.once(database, "counter", sent, fails)
        assert await effects(database) == []
        await inbox.once(database, "counter", sent, leave_effect)
        assert await effects(database) == ids(sent)

    run(scenario)


def test_copies_in_one_batch_are_one_and_order_is_kept(database: Database, run: Run) -> None:
    async def scenario() -> None:
        sent = messages(3)
        await inbox.once(database, "counter", [sent[0], sent[1], sent[0], sent[2], sent[1]], leave_effect)
        assert await effects(database) == ids(sent)

    run(scenario)


def test_work_is_not_called_for_nothing(database: Database, run: Run) -> None:
    async def scenario() -> None:
        calls: list[int] = []
        sent = messages(1)
        for batch in ([], sent, sent):
            await inbox.once(database, "counter", batch, lambda _, fresh: calls.append(len(fresh)))
        assert calls == [1]

    run(scenario)


def test_work_may_touch_the_tenants_of_its_messages_only(database: Database, run: Run) -> None:
    async def scenario() -> None:
        scopes = []
        batch = [*messages(1, "tenant_a"), *messages(1, "tenant_b")]
        await inbox.once(database, "counter", batch, lambda *_: scopes.append(current_scope()))
        (scope,) = scopes
        assert scope.kind == "group"
        assert scope.tenants == {"tenant_a", "tenant_b"}

    run(scenario)


def test_fifty_deliveries_at_once_have_one_effect(database: Database, run: Run) -> None:
    async def scenario() -> None:
        sent = messages(1)
        await asyncio.gather(*(inbox.once(database, "counter", sent, leave_effect) for _ in range(50)))
        assert await effects(database) == ids(sent)

    run(scenario)


@pytest.mark.parametrize("per_millisecond", [1, 7, 100])
def test_prune_takes_a_slice_at_a_time_until_nothing_is_left(
    database: Database, run: Run, monkeypatch: pytest.MonkeyPatch, per_millisecond: int
) -> None:
    monkeypatch.setattr(inbox, "PRUNED_AT_ONCE", 10)
    rows = [{"consumer": "c", "message_id": f"{n}", "seen_at": n // per_millisecond} for n in range(100)]
    before = 80 // per_millisecond

    async def scenario() -> None:
        await database.write(lambda session: session.execute(insert(InboxRow), rows))
        forgotten = []
        while count := await database.write(lambda session: inbox.prune(session, before)):
            forgotten.append(count)
        assert sum(forgotten) == before * per_millisecond
        assert all(count <= 10 + per_millisecond for count in forgotten)
        left = await database.read(lambda session: session.scalar(select(func.min(InboxRow.seen_at))))
        assert left == before

    run(scenario)


def test_prune_forgets_the_old_and_keeps_the_new(database: Database, run: Run) -> None:
    async def scenario() -> None:
        await inbox.once(database, "counter", messages(3), leave_effect)
        now = SystemClock().now_ms()
        assert await database.write(lambda session: inbox.prune(session, now - 60_000)) == 0
        assert await database.write(lambda session: inbox.prune(session, now + 60_000)) == 3
        left = await database.read(lambda session: session.scalar(select(func.count()).select_from(InboxRow)))
        assert left == 0

    run(scenario)
