"""No tenant, no rows: whatever a statement looks like. DESIGN §6 invariant 1."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import (
    Text,
    bindparam,
    cast,
    delete,
    exists,
    func,
    insert,
    literal,
    select,
    text,
    union_all,
    update,
)
from sqlalchemy.exc import CompileError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, aliased, mapped_column
from tests.support.databases import open_database, technology

from yuanlian.kit.database.schema import Base as PlatformBase
from yuanlian.kit.database.schema import TenantOwned
from yuanlian.kit.errors import TenantRequiredError
from yuanlian.kit.tenancy.guard import ForeignTenantError
from yuanlian.kit.tenancy.scope import across_tenants, current_tenant, tenant_group, tenant_scope

__all__ = ["technology"]


@pytest.fixture(autouse=True)
def _on_every_database(technology: str) -> None:
    pass


class Base(DeclarativeBase):
    type_annotation_map = PlatformBase.type_annotation_map


class Toy(TenantOwned, Base):
    __tablename__ = "toys"

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]


class Owner(TenantOwned, Base):
    __tablename__ = "owners"

    id: Mapped[str] = mapped_column(primary_key=True)
    toy_id: Mapped[str]


class Brand(Base):
    """Installation-wide."""

    __tablename__ = "brands"

    name: Mapped[str] = mapped_column(primary_key=True)


Work = Callable[[Session], Any]
T1, T2 = "t1", "t2"


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Any]:
    """``run(work, write=…)`` inside the caller's scope; ``t1`` and ``t2`` own a ball each."""

    def do(work: Work, *, write: bool = False) -> Any:
        async def scene() -> Any:
            database = open_database(tmp_path / "guard.db")
            try:
                return await (database.write(work) if write else database.read(work))
            finally:
                await database.close()

        return asyncio.run(scene())

    database = open_database(tmp_path / "guard.db")
    database.migrate(Base.metadata.create_all)
    asyncio.run(database.close())
    with tenant_group((T1, T2)):
        do(_fill, write=True)
    return do


def _fill(session: Session) -> None:
    for tenant in (T1, T2):
        session.add(Toy(tenant_id=tenant, id=f"ball-{tenant}", name="ball"))
        session.add(Owner(tenant_id=tenant, id=f"owner-{tenant}", toy_id=f"ball-{tenant}"))
    session.add(Brand(name="ball"))


OTHER = aliased(Toy)
TOYS = select(Toy.id).cte("toys_cte")
UNION: Any = union_all(select(Toy.id), select(Owner.id))
READS: dict[str, Any] = {
    "plain": select(Toy.id),
    "core table": select(Toy.__table__.c.id),
    "alias": select(OTHER.id),
    "join": select(Toy.id).join(Owner, Owner.toy_id == Toy.id),
    "self join": select(Toy.id).join(OTHER, OTHER.name == Toy.name).where(OTHER.id != Toy.id),
    "cross join": select(Toy.id, Owner.id).where(Toy.id != Owner.toy_id),
    "subquery": select(select(Toy.id).subquery()),
    "scalar subquery": select(literal("count"), select(func.count(Toy.id)).scalar_subquery()),
    "exists": select(Brand.name).where(exists().where(Toy.name == Brand.name, Toy.id.like("%-t2"))),
    "in subquery": select(Owner.id).where(Owner.toy_id.in_(select(Toy.id))),
    "cte": select(TOYS),
    "union": UNION,
    "where true": select(Toy.id).where(literal(1) == 1),
    "other tenant asked for": select(Toy.id).where(Toy.tenant_id == T2),
    "or": select(Toy.id).where((Toy.tenant_id == T2) | (Toy.tenant_id == T1)),
    "group by": select(Toy.tenant_id, func.count()).group_by(Toy.tenant_id),
    "outer join from a shared table": select(Brand.name, Toy.id).outerjoin(Toy, Toy.name == Brand.name),
    "lateral use of an alias": select(Brand.name, OTHER.id).join(OTHER, OTHER.name == Brand.name),
}


@pytest.mark.parametrize("name", READS)
def test_no_statement_reaches_another_tenants_rows(run: Callable[..., Any], name: str) -> None:
    statement = READS[name]
    with tenant_scope(T1):
        rows = run(lambda s: s.execute(statement).all())
    assert T2 not in str(rows), f"{name}: {rows}"


@pytest.mark.parametrize("name", [n for n in READS if n != "exists"])
def test_every_statement_without_a_tenant_raises(run: Callable[..., Any], name: str) -> None:
    with pytest.raises(TenantRequiredError):
        run(lambda s: s.execute(READS[name]).all())


def test_without_a_tenant_nothing_is_sent_to_the_database(tmp_path: Path) -> None:
    async def scene() -> None:
        database = open_database(tmp_path / "empty.db")  # its tables do not even exist
        try:
            with pytest.raises(TenantRequiredError):
                await database.read(lambda s: s.execute(select(Toy.id)).all())
        finally:
            await database.close()

    asyncio.run(scene())


def test_an_outer_join_keeps_the_rows_of_its_left_side(run: Callable[..., Any]) -> None:
    query = select(Toy.id, Owner.id).outerjoin(Owner, (Owner.toy_id == Toy.id) & (Owner.id == "nobody"))
    with tenant_scope(T1):
        assert run(lambda s: s.execute(query).all()) == [("ball-t1", None)]


def test_orm_loads_by_key_of_another_tenant_find_nothing(run: Callable[..., Any]) -> None:
    with tenant_scope(T1):
        assert run(lambda s: s.get(Toy, (T2, "ball-t2"))) is None
        assert run(lambda s: s.get(Toy, (T1, "ball-t1")).name) == "ball"


def test_updates_and_deletes_stay_inside(run: Callable[..., Any]) -> None:
    with tenant_scope(T1):
        assert run(lambda s: s.execute(update(Toy).values(name="x")).rowcount, write=True) == 1
        assert run(lambda s: s.execute(delete(Toy).where(Toy.tenant_id == T2)).rowcount, write=True) == 0
        assert run(lambda s: s.execute(delete(Owner)).rowcount, write=True) == 1
    with tenant_scope(T2):
        assert run(lambda s: s.execute(select(Toy.name)).scalars().all()) == ["ball"]
        assert run(lambda s: s.execute(select(func.count(Owner.id))).scalar()) == 1


def test_an_update_whose_condition_reads_a_table_is_guarded_there_too(run: Callable[..., Any]) -> None:
    foreign = select(Owner.toy_id).where(Owner.tenant_id == T2).scalar_subquery()
    with tenant_scope(T1):
        run(lambda s: s.execute(update(Toy).values(name=func.coalesce(foreign, "kept"))), write=True)
        assert run(lambda s: s.execute(select(Toy.name)).scalar()) == "kept"


def test_a_row_of_another_tenant_cannot_be_written(run: Callable[..., Any]) -> None:
    foreign = {"tenant_id": T2, "id": "stolen", "name": "x"}
    writes: list[Work] = [
        lambda s: s.add(Toy(**foreign)),
        lambda s: s.execute(insert(Toy).values(**foreign)),
        lambda s: s.execute(insert(Toy).values([foreign])),
        lambda s: s.execute(insert(Toy), [foreign]),
        lambda s: s.execute(insert(Toy), [{"id": "nobodys", "name": "x"}]),
        lambda s: s.execute(
            insert(Toy).from_select(["tenant_id", "id", "name"], select(literal(T2), Toy.id, Toy.name))
        ),
    ]
    with tenant_scope(T1):
        for work in writes:
            with pytest.raises(ForeignTenantError):
                run(work, write=True)


def test_textual_sql_is_refused(run: Callable[..., Any]) -> None:
    with tenant_scope(T1), pytest.raises(TenantRequiredError):
        run(lambda s: s.execute(text("SELECT * FROM toys")).all())


def test_a_place_that_the_guard_cannot_reach_does_not_compile(run: Callable[..., Any]) -> None:
    """UPDATE … FROM another tenant-owned table has a FROM that is no SELECT's."""
    statement = update(Toy).where(Toy.id == Owner.toy_id).values(name=cast(Owner.id, Text))
    with tenant_scope(T1), pytest.raises(CompileError):
        run(lambda s: s.execute(statement.execution_options(synchronize_session=False)), write=True)


def test_a_group_sees_its_own_tenants_only(run: Callable[..., Any]) -> None:
    with tenant_group([T2]):
        assert run(lambda s: s.execute(select(Toy.id)).scalars().all()) == ["ball-t2"]
    with tenant_group([T1, T2]):
        assert len(run(lambda s: s.execute(select(Toy.id)).all())) == 2
        with pytest.raises(TenantRequiredError):
            current_tenant()


def test_a_group_changes_many_rows_of_its_own_tenants_only(run: Callable[..., Any]) -> None:
    """The multi-row statements of a group commit: one UPDATE with a list of parameters."""
    statement = update(Toy).where(Toy.id == bindparam("key")).values(name=bindparam("new"))
    rows = [{"key": f"ball-{tenant}", "new": "painted"} for tenant in (T1, T2)]
    with tenant_group([T2]):
        run(lambda s: s.connection().execute(statement, rows), write=True)
    with tenant_group([T1, T2]):
        assert sorted(run(lambda s: s.execute(select(Toy.name)).scalars().all())) == ["ball", "painted"]


def test_a_tenant_id_cannot_pretend_to_be_two(run: Callable[..., Any]) -> None:
    with pytest.raises(TenantRequiredError), tenant_group(["t1|t2"]):
        run(lambda s: s.execute(select(Toy.id)).all())


def test_work_across_tenants_is_explicit(run: Callable[..., Any]) -> None:
    with across_tenants("test"):
        assert len(run(lambda s: s.execute(select(Toy.id)).all())) == 2
    with pytest.raises(TenantRequiredError):
        run(lambda s: s.execute(select(Toy.id)).all())


def test_one_statement_in_every_kind_of_scope_keeps_its_own_meaning(tmp_path: Path) -> None:
    """Compiled statements are cached: a text made for one kind of scope must not serve another."""

    async def scene() -> None:
        database = open_database(tmp_path / "cache.db")
        database.migrate(Base.metadata.create_all)
        statement = select(Toy.id)

        async def count() -> int:
            return len(await database.read(lambda s: s.execute(statement).all()))

        try:
            with tenant_group((T1, T2)):
                await database.write(_fill)
            for _ in range(2):
                with across_tenants("test"):
                    assert await count() == 2
                with tenant_scope(T1):
                    assert await count() == 1
                with tenant_group([T1, T2]):
                    assert await count() == 2
                with pytest.raises(TenantRequiredError):
                    await count()
        finally:
            await database.close()

    asyncio.run(scene())
