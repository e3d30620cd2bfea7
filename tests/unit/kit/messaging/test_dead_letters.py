"""Dead letters seen, replayed and discarded."""

from __future__ import annotations

from sqlalchemy import insert, select
from sqlalchemy.orm import Session
from tests.unit.kit.messaging.store import Run, ids, in_outbox, messages

from yuanlian.kit.clock import SystemClock
from yuanlian.kit.database.database import Database
from yuanlian.kit.messaging import dead_letters
from yuanlian.kit.messaging.dead_letters import DatabaseDeadLetters
from yuanlian.kit.messaging.local import LocalBus
from yuanlian.kit.messaging.message import Message
from yuanlian.kit.messaging.repository import encode
from yuanlian.kit.messaging.tables import BusMessageRow, DeadLetterRow, DeliveryRow


async def bury(database: Database, queue: str, of: list[Message]) -> None:
    rows = [
        {
            "queue": queue,
            "message_id": message.id,
            "reason": "OSError: down",
            "attempts": 4,
            "failed_at": 1,
            "body": encode(message),
        }
        for message in of
    ]
    await database.write(lambda session: session.execute(insert(DeadLetterRow), rows))


async def queued(database: Database) -> list[tuple[str, str, int]]:
    def rows(session: Session) -> list[tuple[str, str, int]]:
        statement = (
            select(DeliveryRow.queue, BusMessageRow.message_id, DeliveryRow.attempt)
            .join(BusMessageRow, BusMessageRow.sequence == DeliveryRow.sequence)
            .order_by(DeliveryRow.sequence)
        )
        return [(queue, id_, attempt) for queue, id_, attempt in session.execute(statement)]

    return await database.read(rows)


def test_the_list_is_newest_first_in_pages_and_by_queue(database: Database, run: Run) -> None:
    async def scenario() -> None:
        letters = DatabaseDeadLetters(database, LocalBus(database, SystemClock()))
        first, other, second = messages(2), messages(1), messages(3)
        await bury(database, "a", first)
        await bury(database, "b", other)
        await bury(database, "a", second)
        page, cursor = await letters.list(4)
        rest, end = await letters.list(4, cursor)
        assert [letter.message_id for letter in page + rest] == ids([*first, *other, *second])[::-1]
        assert end is None
        only, _ = await letters.list(queue="b")
        assert [letter.message_id for letter in only] == ids(other)

    run(scenario)


def test_a_whole_queue_is_replayed_oldest_first(database: Database, run: Run) -> None:
    async def scenario() -> None:
        letters = DatabaseDeadLetters(database, LocalBus(database, SystemClock()))
        dead, other = messages(dead_letters.PAGE + 1), messages(1)
        await bury(database, "a", dead)
        await bury(database, "b", other)
        assert await letters.replay_queue("a") == len(dead)
        assert await queued(database) == [("a", id_, 0) for id_ in ids(dead)]
        left, _ = await letters.list()
        assert [letter.queue for letter in left] == ["b"]

    run(scenario)


def test_an_unknown_id_or_an_empty_queue_replays_nothing(database: Database, run: Run) -> None:
    async def scenario() -> None:
        letters = DatabaseDeadLetters(database, LocalBus(database, SystemClock()))
        assert await letters.replay([42]) == 0
        assert await letters.replay_queue("nowhere") == 0
        assert await queued(database) == []

    run(scenario)


def test_what_died_in_the_outbox_returns_to_the_outbox(database: Database, run: Run) -> None:
    async def scenario() -> None:
        letters = DatabaseDeadLetters(database, LocalBus(database, SystemClock()))
        dead = messages(2)
        await bury(database, "outbox", dead)
        assert await letters.replay_queue("outbox") == 2
        assert await in_outbox(database) == ids(dead)
        assert await letters.list() == ([], None)

    run(scenario)


def test_a_discarded_letter_is_gone(database: Database, run: Run) -> None:
    async def scenario() -> None:
        letters = DatabaseDeadLetters(database, LocalBus(database, SystemClock()))
        await bury(database, "a", messages(2))
        (newest, oldest), _ = await letters.list()
        assert await letters.discard([newest.id, 999]) == 1
        assert await letters.list() == ([oldest], None)

    run(scenario)
