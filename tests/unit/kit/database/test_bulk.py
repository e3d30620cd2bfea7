"""Rows that go to the driver as they are, and are held against the tenant scope all the same."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Date, Table, select
from sqlalchemy.dialects import mysql, sqlite
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from tests.support.databases import open_database, technology

from yuanlian.kit.database.bulk import few_lengths, insert_rows
from yuanlian.kit.database.schema import Base as PlatformBase
from yuanlian.kit.database.schema import TenantOwned
from yuanlian.kit.errors import TenantRequiredError
from yuanlian.kit.tenancy.guard import ForeignTenantError
from yuanlian.kit.tenancy.scope import tenant_group, tenant_scope

__all__ = ["technology"]


@pytest.fixture(autouse=True)
def _on_every_database(technology: str) -> None:
    pass


class Base(DeclarativeBase):
    type_annotation_map = PlatformBase.type_annotation_map


class Meal(TenantOwned, Base):
    __tablename__ = "meals"

    id: Mapped[str] = mapped_column(primary_key=True)
    day: Mapped[date] = mapped_column(Date)
    portions: Mapped[int | None]


def _table() -> Table:
    table = Meal.__table__
    assert isinstance(table, Table)
    return table


MEALS = _table()
_LITE, _MY = sqlite.insert(MEALS), mysql.insert(MEALS)
NEWER = {
    "sqlite": _LITE.on_conflict_do_update(
        index_elements=[MEALS.c.tenant_id, MEALS.c.id], set_={"portions": _LITE.excluded.portions}
    ),
    "mysql": _MY.on_duplicate_key_update(portions=_MY.inserted.portions),
}


@pytest.fixture
def write(tmp_path: Path) -> Callable[[Callable[[Session], Any]], Any]:
    database = open_database(tmp_path / "meals.db")
    database.migrate(Base.metadata.create_all)

    def run(work: Callable[[Session], Any]) -> Any:
        async def scene() -> Any:
            try:
                return await database.write(work)
            finally:
                await database.close()

        return asyncio.run(scene())

    return run


def _stored(session: Session) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in session.execute(select(MEALS).order_by(MEALS.c.id))]


def test_values_arrive_in_the_columns_they_are_meant_for(write: Callable[..., Any]) -> None:
    def work(session: Session) -> list[tuple[Any, ...]]:
        insert_rows(session, MEALS, [("t1", "lunch", "2026-11-24", 25), ("t1", "snack", "2026-11-24", None)])
        insert_rows(session, MEALS, [])
        return _stored(session)

    with tenant_scope("t1"):
        day = date(2026, 11, 24)
        assert write(work) == [("t1", "lunch", day, 25), ("t1", "snack", day, None)]


def test_a_row_of_another_tenant_stops_all_of_them(write: Callable[..., Any]) -> None:
    rows = [("t1", "lunch", "2026-11-24", 25), ("t2", "lunch", "2026-11-24", 25)]

    def work(session: Session) -> int:
        with pytest.raises(ForeignTenantError):
            insert_rows(session, MEALS, rows)
        return len(_stored(session))

    with tenant_scope("t1"):
        assert write(work) == 0


def test_without_a_tenant_it_raises(write: Callable[..., Any]) -> None:
    with pytest.raises(TenantRequiredError):
        write(lambda session: insert_rows(session, MEALS, [("t1", "lunch", "2026-11-24", 25)]))


def test_a_repeated_key_is_an_error_unless_the_statement_says_otherwise(write: Callable[..., Any]) -> None:
    def work(session: Session) -> list[tuple[Any, ...]]:
        insert_rows(session, MEALS, [("t1", "lunch", "2026-11-24", 25)])
        with pytest.raises(IntegrityError), session.begin_nested():
            insert_rows(session, MEALS, [("t1", "lunch", "2026-11-24", 30)])
        insert_rows(
            session, MEALS, [("t1", "lunch", "2026-11-24", 31)], NEWER[session.connection().dialect.name]
        )
        return _stored(session)

    with tenant_group(["t1", "t2"]):
        [(_, _, _, portions)] = write(work)
        assert portions == 31


def test_lists_of_any_length_become_lists_of_few_lengths_with_the_same_keys() -> None:
    lists = [[f"key_{n}" for n in range(size)] for size in range(129)]
    padded = [few_lengths(keys) for keys in lists]
    assert [list(dict.fromkeys(keys)) for keys in padded] == lists
    assert sorted({len(keys) for keys in padded}) == [0, 1, 2, 4, 8, 16, 32, 64, 96, 128]
