"""The outbox shares the fate of the transaction it is in."""

from __future__ import annotations

import pytest
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session
from tests.unit.kit.messaging.store import Run, effects, ids, in_outbox, leave_effect, messages

from yuanlian.kit.database.database import Database
from yuanlian.kit.messaging import outbox, repository
from yuanlian.kit.messaging.message import Message
from yuanlian.kit.messaging.repository import decode
from yuanlian.kit.messaging.tables import OutboxRow


def test_messages_are_stored_in_order_and_whole(database: Database, run: Run) -> None:
    async def scenario() -> None:
        sent = messages(3)
        await database.write(lambda session: outbox.add(session, sent))
        rows = await database.read(
            lambda session: [*session.scalars(select(OutboxRow.body).order_by(OutboxRow.sequence))]
        )
        assert [decode(body) for body in rows] == sent

    run(scenario)


def test_what_is_rolled_back_was_never_said(database: Database, run: Run) -> None:
    async def scenario() -> None:
        def work(session: Session) -> None:
            outbox.add(session, messages(2))
            raise LookupError

        with pytest.raises(LookupError):
            await database.write(work)
        assert await in_outbox(database) == []

    run(scenario)


def test_a_message_id_is_there_once_and_a_repeat_fails_its_transaction(database: Database, run: Run) -> None:
    async def scenario() -> None:
        first = messages(1)
        await database.write(lambda session: outbox.add(session, first))

        def work(session: Session) -> None:
            leave_effect(session, first)
            outbox.add(session, first)

        with pytest.raises(IntegrityError):
            await database.write(work)
        assert await effects(database) == []
        assert await in_outbox(database) == ids(first)

    run(scenario)


def test_nothing_to_say_is_no_statement(database: Database, run: Run) -> None:
    async def scenario() -> None:
        await database.read(lambda session: outbox.add(session, []))

    run(scenario)


def test_a_body_larger_than_64_kib_is_kept_whole(database: Database, run: Run) -> None:
    async def scenario() -> None:
        big = Message.new("thing.happened", "tenant_a", {"text": "园" * 100_000})
        await database.write(lambda session: outbox.add(session, [big]))
        length = await database.read(lambda session: session.scalar(select(func.length(OutboxRow.body))))
        assert length is not None
        assert length > 100_000

    run(scenario)


@pytest.mark.parametrize("gone", [[], [3], [1, 2, 3], [5, 2, 1], [6, 4, 2], [1, 2, 3, 4, 5, 6]])
def test_only_the_rows_named_are_deleted(database: Database, run: Run, gone: list[int]) -> None:
    async def scenario() -> None:
        sent = messages(6)
        await database.write(lambda session: outbox.add(session, sent))
        await database.write(lambda session: repository.delete_outbox(session, gone))
        assert await in_outbox(database) == [
            message.id for number, message in enumerate(sent, 1) if number not in gone
        ]

    run(scenario)
