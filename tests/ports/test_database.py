"""What every ``Database`` promises, whatever it is."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, insert, select, update
from sqlalchemy.dialects import mysql, sqlite
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.orm import Session
from tests.ports.database_world import (
    NOTES,
    TOYS,
    Base,
    Note,
    Place,
    Toy,
    beside,
    closing,
    count_notes,
    note,
    notes,
)
from tests.support.databases import open_database, technology

from yuanlian.kit.database.bulk import insert_rows
from yuanlian.kit.database.database import ManagedDatabase
from yuanlian.kit.errors import ConflictError, TenantRequiredError
from yuanlian.kit.tenancy.guard import ForeignTenantError
from yuanlian.kit.tenancy.scope import across_tenants, tenant_group, tenant_scope

__all__ = ["technology"]

Scenario = Callable[[ManagedDatabase], Awaitable[None]]
Play = Callable[[Scenario], None]
SUN, STAR = "tenant_sun", "tenant_star"


@pytest.fixture
def another(tmp_path: Path, technology: str) -> Callable[[], ManagedDatabase]:
    """The same data, as another process has it."""
    first = open_database(tmp_path / "port.db")
    first.migrate(Base.metadata.create_all)
    asyncio.run(first.close())
    return lambda: open_database(tmp_path / "port.db")


@pytest.fixture
def play(another: Callable[[], ManagedDatabase]) -> Play:
    def run(scenario: Scenario) -> None:
        async def whole() -> None:
            database = another()
            await closing(database, asyncio.wait_for(scenario(database), 60))

        asyncio.run(whole())

    return run


def test_a_write_returns_what_its_work_returns_and_is_there_for_everybody(
    play: Play, another: Callable[[], ManagedDatabase]
) -> None:
    async def scenario(database: ManagedDatabase) -> None:
        assert await database.write(note("first")) == "first"
        assert await database.read(notes) == ["first"]
        other = another()
        assert await closing(other, other.read(notes)) == ["first"]

    play(scenario)


def test_nobody_sees_a_work_before_it_is_committed(
    play: Play, another: Callable[[], ManagedDatabase]
) -> None:
    def look() -> list[str]:
        other = another()
        return beside(lambda: closing(other, other.read(notes)))

    def work(session: Session) -> list[str]:
        note("not yet")(session)
        return look()

    async def scenario(database: ManagedDatabase) -> None:
        assert await database.write(work) == []
        assert await database.read(notes) == ["not yet"]

    play(scenario)


def test_a_read_stands_on_one_snapshot(play: Play, another: Callable[[], ManagedDatabase]) -> None:
    def write() -> None:
        other = another()
        beside(lambda: closing(other, other.write(note("meanwhile"))))

    def look_twice(session: Session) -> tuple[int, int]:
        before = count_notes(session)
        write()
        return before, count_notes(session)

    async def scenario(database: ManagedDatabase) -> None:
        assert await database.read(look_twice) == (0, 0)
        assert await database.read(count_notes) == 1

    play(scenario)


def test_a_read_cannot_write(play: Play) -> None:
    async def scenario(database: ManagedDatabase) -> None:
        for statement in (insert(Note).values(text="x"), update(Note).values(text="x"), delete(Note)):
            with pytest.raises(OperationalError):
                await database.read(partial(_execute, statement))
        assert await database.read(count_notes) == 0

    play(scenario)


def test_a_work_that_raises_is_undone_alone(play: Play) -> None:
    def failing(text: str) -> Callable[[Session], str]:
        def work(session: Session) -> str:
            note(text)(session)
            raise ConflictError

        return work

    async def scenario(database: ManagedDatabase) -> None:
        works = [(failing if n % 3 == 0 else note)(f"note {n}") for n in range(200)]
        heard = await asyncio.gather(*map(database.write, works), return_exceptions=True)
        assert [n for n, result in enumerate(heard) if isinstance(result, ConflictError)] == [
            *range(0, 200, 3)
        ]
        stored = {f"note {n}" for n in range(200) if n % 3}
        assert set(await database.read(notes)) == stored
        assert await database.read(count_notes) == len(stored)

    play(scenario)


def test_a_work_that_fails_alone_leaves_nothing_to_the_next(play: Play) -> None:
    def failing(session: Session) -> None:
        note("gone")(session)
        raise ConflictError

    async def scenario(database: ManagedDatabase) -> None:
        for _ in range(3):
            with pytest.raises(ConflictError):
                await database.write(failing)
            await database.write(note("kept"))
        assert await database.read(notes) == ["kept"] * 3

    play(scenario)


def test_a_taken_key_is_its_own_works_error(play: Play) -> None:
    def take(key: str) -> Callable[[Session], None]:
        return lambda session: session.add(Place(key=key, count=0))

    async def scenario(database: ManagedDatabase) -> None:
        await database.write(take("a"))
        heard = await asyncio.gather(*(database.write(take(k)) for k in "abac"), return_exceptions=True)
        assert [type(result) for result in heard] == [IntegrityError, type(None), IntegrityError, type(None)]
        assert await database.read(lambda s: [*s.scalars(select(Place.key).order_by(Place.key))]) == [*"abc"]

    play(scenario)


def test_a_savepoint_inside_a_work_is_the_works_own(play: Play) -> None:
    def work(session: Session) -> None:
        note("kept")(session)
        with pytest.raises(IntegrityError), session.begin_nested():
            insert_rows(session, NOTES, [(1_000_000, "one"), (1_000_000, "two")])
        note("also kept")(session)

    async def scenario(database: ManagedDatabase) -> None:
        await asyncio.gather(*(database.write(work) for _ in range(5)))
        assert sorted(await database.read(notes)) == ["also kept"] * 5 + ["kept"] * 5

    play(scenario)


def test_whoever_stops_waiting_takes_nobody_else_along(play: Play) -> None:
    async def scenario(database: ManagedDatabase) -> None:
        tasks = [asyncio.create_task(database.write(note(f"{n}"))) for n in range(50)]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert {f"{n}" for n in range(1, 50, 2)} <= set(await database.read(notes))

    play(scenario)


def test_a_work_sees_the_context_of_its_caller(play: Play) -> None:
    who: contextvars.ContextVar[int] = contextvars.ContextVar("who")

    async def ask(database: ManagedDatabase, number: int) -> tuple[int, int]:
        who.set(number)
        written = await database.write(lambda s: (note(f"{number}")(s), who.get())[1])
        return written, await database.read(lambda s: (count_notes(s), who.get())[1])

    async def scenario(database: ManagedDatabase) -> None:
        answers = await asyncio.gather(*(ask(database, n) for n in range(40)))
        assert answers == [(n, n) for n in range(40)]

    play(scenario)


def _execute(statement: Any, session: Session) -> Any:
    return session.execute(statement)


def _scalars(statement: Any, session: Session) -> list[Any]:
    return [*session.scalars(statement)]


# -- tenants ----------------------------------------------------------------------------------


def test_works_of_many_tenants_at_once_see_and_change_their_own_rows_only(play: Play) -> None:
    def own(session: Session) -> set[str]:
        session.execute(update(Toy).values(name="mine"))
        return set(session.scalars(select(Toy.tenant_id)))

    async def fill(database: ManagedDatabase, tenant: str) -> None:
        with tenant_scope(tenant):
            await database.write(lambda s: s.execute(insert(Toy), {"tenant_id": tenant, "id": "ball"}))

    async def look(database: ManagedDatabase, tenant: str) -> None:
        with tenant_scope(tenant):
            assert await database.write(own) == {tenant}
            assert await database.read(lambda s: [*s.scalars(select(Toy.tenant_id))]) == [tenant]
        with tenant_group((tenant, "nobody")):
            assert await database.read(lambda s: [*s.scalars(select(Toy.tenant_id))]) == [tenant]

    async def scenario(database: ManagedDatabase) -> None:
        tenants = [f"tenant_{n}" for n in range(20)]
        await asyncio.gather(*(fill(database, tenant) for tenant in tenants))
        await asyncio.gather(*(look(database, tenant) for tenant in tenants))
        with across_tenants("test"):
            assert len(await database.read(lambda s: s.execute(select(Toy.name)).all())) == 20

    play(scenario)


def test_without_a_tenant_there_is_no_row_and_no_foreign_one_with_it(play: Play) -> None:
    row = (STAR, "ball", None)

    async def scenario(database: ManagedDatabase) -> None:
        for work in (lambda s: s.scalars(select(Toy.id)).all(), lambda s: s.execute(delete(Toy))):
            with pytest.raises(TenantRequiredError):
                await database.read(work)
            with pytest.raises(TenantRequiredError):
                await database.write(work)
        with tenant_scope(SUN):
            for work in (
                lambda s: insert_rows(s, TOYS, [(SUN, "ball", None), row]),
                lambda s: s.execute(insert(Toy), {"tenant_id": STAR, "id": "ball"}),
                lambda s: s.add(Toy(tenant_id=STAR, id="ball")),
            ):
                with pytest.raises(ForeignTenantError):
                    await database.write(work)
        with across_tenants("test"):
            assert await database.read(lambda s: s.scalars(select(Toy.id)).all()) == []

    play(scenario)


# -- values -----------------------------------------------------------------------------------


AWKWARD = (
    "", " ", "a", "A", "a ", "ä", "a\u0308", "ß", "ss", "'", '"', "\\", "\\'", "%", "%s", "%(x)s", "?", ":x",
    "`", ";", "--", "/*", "\n", "\r\n", "\t", "\u200b", "小明", "👶🏽", "\x1a", "' OR 1=1 --", "|", "a|",
)  # fmt: skip


def test_values_come_back_as_they_were_and_no_two_are_the_same_key(play: Play) -> None:
    rows = [(SUN, key, key) for key in AWKWARD]

    async def scenario(database: ManagedDatabase) -> None:
        with tenant_scope(SUN):
            await database.write(lambda s: insert_rows(s, TOYS, rows))
            found = await database.read(lambda s: s.execute(select(Toy.id, Toy.name)).all())
            assert sorted(map(tuple, found)) == sorted((key, key) for key in AWKWARD)
            for key in AWKWARD:
                one = partial(_scalars, select(Toy.id).where(Toy.id == key))
                assert await database.read(one) == [key]

    play(scenario)


def test_names_sort_by_their_code_points(play: Play) -> None:
    async def scenario(database: ManagedDatabase) -> None:
        with tenant_scope(SUN):
            await database.write(lambda s: insert_rows(s, TOYS, [(SUN, key, None) for key in AWKWARD]))
            found = await database.read(lambda s: [*s.scalars(select(Toy.id).order_by(Toy.id))])
        assert found == sorted(AWKWARD)

    play(scenario)


def test_many_rows_go_in_at_once_and_only_the_newer_ones_replace(play: Play) -> None:
    def upsert(session: Session, rows: Sequence[tuple[str, str, str | None]]) -> None:
        insert_rows(session, TOYS, rows, _upsert(session.connection().dialect.name))

    async def scenario(database: ManagedDatabase) -> None:
        first = [(SUN, f"toy {n}", f"name {n}") for n in range(2_000)]
        again = [(SUN, f"toy {n}", None if n % 2 else "new") for n in range(1_000, 3_000)]
        with tenant_scope(SUN):
            await database.write(lambda s: upsert(s, first))
            await database.write(lambda s: upsert(s, again))
            found: dict[str, Any] = {
                toy.id: toy.name for toy in await database.read(lambda s: s.scalars(select(Toy)).all())
            }
        expected = dict(row[1:] for row in first) | dict(row[1:] for row in again)
        assert found == expected

    play(scenario)


_UPSERTS: dict[str, Any] = {}


def _upsert(dialect: str) -> Any:
    if dialect not in _UPSERTS:
        if dialect == "sqlite":
            lite = sqlite.insert(TOYS)
            _UPSERTS[dialect] = lite.on_conflict_do_update(
                index_elements=["tenant_id", "id"], set_={"name": lite.excluded.name}
            )
        else:
            my = mysql.insert(TOYS)
            _UPSERTS[dialect] = my.on_duplicate_key_update(name=my.inserted.name)
    return _UPSERTS[dialect]
