"""Group commit: shared transactions, separate fates. DESIGN §4, §6 invariant 2."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Coroutine
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, func, insert, select
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from yuanlian.kit.database.batching import Batcher
from yuanlian.kit.database.sqlite import SqliteDatabase


class Base(DeclarativeBase):
    pass


class Note(Base):
    __tablename__ = "notes"

    id: Mapped[int] = mapped_column(primary_key=True)


Scenario = Callable[[SqliteDatabase], Coroutine[Any, Any, None]]


@pytest.fixture
def play(tmp_path: Path) -> Callable[[Scenario], None]:
    def run(scenario: Scenario) -> None:
        async def scene() -> None:
            database = SqliteDatabase(tmp_path / "notes.db")
            database.migrate(Base.metadata.create_all)
            try:
                await scenario(database)
            finally:
                await database.close()

        asyncio.run(scene())

    return run


def _add(id_: int) -> Callable[[Session], int]:
    def work(session: Session) -> int:
        session.execute(insert(Note), [{"id": id_}])
        return id_

    return work


def _count(session: Session) -> int:
    return session.execute(select(func.count()).select_from(Note)).scalar_one()


def test_an_answered_write_is_in_the_file(play: Callable[[Scenario], None]) -> None:
    async def scenario(database: SqliteDatabase) -> None:
        await database.write(_add(1))
        with closing(sqlite3.connect(database.path)) as other:
            assert other.execute("SELECT id FROM notes").fetchall() == [(1,)]

    play(scenario)


def test_concurrent_writes_share_transactions(play: Callable[[Scenario], None]) -> None:
    async def scenario(database: SqliteDatabase) -> None:
        commits = []
        event.listen(database._writer, "commit", lambda _: commits.append(1))
        await asyncio.gather(*(database.write(_add(i)) for i in range(200)))
        assert await database.read(_count) == 200
        assert len(commits) < 100

    play(scenario)


def test_one_that_fails_is_undone_alone(play: Callable[[Scenario], None]) -> None:
    async def scenario(database: SqliteDatabase) -> None:
        def fails(session: Session) -> None:
            session.execute(insert(Note), [{"id": 50}])
            raise RuntimeError("after its insert")

        results = await asyncio.gather(
            database.write(_add(1)),
            database.write(fails),
            database.write(_add(2)),
            database.write(_add(1)),
            return_exceptions=True,
        )
        assert results[0] == 1
        assert isinstance(results[1], RuntimeError)
        assert results[2] == 2
        assert isinstance(results[3], IntegrityError)
        assert await database.read(lambda s: sorted(s.scalars(select(Note.id)))) == [1, 2]

    play(scenario)


def test_when_the_commit_fails_every_caller_hears_it(play: Callable[[Scenario], None]) -> None:
    async def scenario(database: SqliteDatabase) -> None:
        def refuse(_connection: Any) -> None:
            raise OSError("disk full")

        event.listen(database._writer, "commit", refuse)
        results = await asyncio.gather(*(database.write(_add(i)) for i in range(3)), return_exceptions=True)
        assert all(isinstance(r, OSError) for r in results)
        event.remove(database._writer, "commit", refuse)
        assert await database.read(_count) == 0
        assert await database.write(_add(9)) == 9

    play(scenario)


def test_a_read_cannot_write(play: Callable[[Scenario], None]) -> None:
    async def scenario(database: SqliteDatabase) -> None:
        with pytest.raises(OperationalError):
            await database.read(_add(1))

    play(scenario)


def test_a_read_sees_one_moment(play: Callable[[Scenario], None]) -> None:
    async def scenario(database: SqliteDatabase) -> None:
        first_read, written = threading.Event(), threading.Event()

        def twice(session: Session) -> tuple[int, int]:
            before = _count(session)
            first_read.set()
            assert written.wait(5)
            return before, _count(session)

        reading = asyncio.create_task(database.read(twice))
        assert await asyncio.to_thread(first_read.wait, 5)
        await database.write(_add(1))
        written.set()
        assert await reading == (0, 0)

    play(scenario)


def test_a_caller_that_left_does_not_disturb_the_others(play: Callable[[Scenario], None]) -> None:
    async def scenario(database: SqliteDatabase) -> None:
        leaving = asyncio.create_task(database.write(_add(1)))
        staying = asyncio.create_task(database.write(_add(2)))
        await asyncio.sleep(0)
        leaving.cancel()
        assert await staying == 2

    play(scenario)


def test_a_batch_gathers_while_the_one_before_is_stored() -> None:
    async def scene() -> None:
        sizes: list[int] = []

        async def store(items: Any) -> list[int]:
            sizes.append(len(items))
            await asyncio.sleep(0)
            return [item * 10 for item in items]

        batcher: Batcher[int, int] = Batcher(store, limit=4)
        assert await asyncio.gather(*(batcher.submit(i) for i in range(9))) == [i * 10 for i in range(9)]
        assert sizes == [4, 4, 1]

    asyncio.run(scene())


def test_in_a_batch_that_fails_each_item_is_tried_alone() -> None:
    async def scene() -> None:
        async def store(items: Any) -> list[int | Exception]:
            if 3 in items:
                raise ValueError("3")
            return [KeyError(i) if i == 4 else i for i in items]

        batcher: Batcher[int, int] = Batcher(store)
        results = await asyncio.gather(*(batcher.submit(i) for i in (1, 3, 4, 5)), return_exceptions=True)
        assert [type(r) for r in results] == [int, ValueError, KeyError, int]

    asyncio.run(scene())


def test_connections_that_open_a_new_file_at_once_wait_for_each_other(tmp_path: Path) -> None:
    """Who asks second for the file's mode heard that it is locked, whatever its time-out: the writer's thread
    ended of it, and whoever wrote waited for ever."""

    async def scenario(path: Path) -> None:
        database = SqliteDatabase(path)
        select_one = "SELECT 1"
        reads = [
            database.read(lambda session: session.connection().exec_driver_sql(select_one).scalar())
            for _ in range(2)
        ]
        write = database.write(lambda session: session.connection().exec_driver_sql(select_one).scalar())
        assert await asyncio.wait_for(asyncio.gather(*reads, write), 30) == [1, 1, 1]
        await database.close()

    for number in range(100):
        asyncio.run(scenario(tmp_path / f"{number}.db"))


def test_a_file_that_cannot_be_opened_is_the_writers_error_and_the_next_write_tries_again(
    tmp_path: Path,
) -> None:
    async def scenario() -> None:
        path = tmp_path / "notes.db"
        path.mkdir()  # which no database can be
        database = SqliteDatabase(path)
        with pytest.raises(OperationalError, match="unable to open"):
            await asyncio.wait_for(database.write(lambda session: session.connection()), 30)
        path.rmdir()
        await asyncio.wait_for(database.write(lambda session: session.connection()), 30)
        await database.close()

    asyncio.run(scenario())
