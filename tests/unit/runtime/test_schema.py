"""The migrations make the tables that the services declare, and so does the short way; on every database."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, insert, inspect, select
from tests.support.databases import open_database, technology

from yuanlian.kit.database.database import ManagedDatabase
from yuanlian.kit.tenancy.scope import across_tenants
from yuanlian.runtime import schema
from yuanlian.runtime.schema import (
    HEAD,
    SchemaError,
    alembic_config,
    examine,
    metadata,
    revision_of,
    upgrade,
)

__all__ = ["technology"]

# "0001" as the first release left it, before anything was added.
FIRST = "0001"


@pytest.fixture
def database(tmp_path: Path, technology: str) -> Iterator[ManagedDatabase]:
    """Without a table."""
    database = open_database(tmp_path / "new.db")
    database.migrate(_drop_everything)
    yield database
    database.migrate(_drop_everything)
    asyncio.run(database.close())


@pytest.mark.parametrize("make", [schema.create, schema.migrate, upgrade])
def test_a_database_has_exactly_the_declared_tables(
    database: ManagedDatabase, make: Callable[[Connection], None]
) -> None:
    def differences(connection: Connection) -> list[Any]:
        make(connection)
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        return list(compare_metadata(context, metadata))

    assert database.migrate(differences) == []
    assert database.migrate(revision_of) == HEAD
    before = database.migrate(_content)
    database.migrate(upgrade)  # a second time changes nothing
    assert database.migrate(_content) == before


def test_both_ways_to_a_new_database_make_the_same_one(database: ManagedDatabase) -> None:
    database.migrate(schema.create)
    at_once = database.migrate(_content)
    database.migrate(_drop_everything)
    database.migrate(schema.migrate)
    assert database.migrate(_content) == at_once


def test_tables_that_nobody_vouches_for_are_not_built_upon(database: ManagedDatabase) -> None:
    database.migrate(lambda connection: metadata.tables["tenants"].create(connection))
    before = database.migrate(_content)
    for work in (examine, upgrade):
        with pytest.raises(SchemaError, match="not one of ours"):
            database.migrate(work)
    assert database.migrate(_content) == before


def test_a_database_of_a_newer_release_is_refused_and_left_alone(database: ManagedDatabase) -> None:
    database.migrate(upgrade)
    database.migrate(
        lambda connection: connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    )
    before = database.migrate(_content)
    for work in (examine, upgrade):
        with pytest.raises(SchemaError, match="9999"):
            database.migrate(work)
    assert database.migrate(_content) == before


def test_a_first_start_that_was_cut_short_is_begun_again(database: ManagedDatabase) -> None:
    """On MySQL every table is kept as soon as it is made."""
    database.migrate(schema.create)
    whole = database.migrate(_content)

    def cut_short(connection: Connection) -> None:
        connection.exec_driver_sql("DELETE FROM alembic_version")
        for name in ("users", "classes"):
            metadata.tables[name].drop(connection)

    database.migrate(cut_short)
    assert database.migrate(examine) is None
    database.migrate(upgrade)
    assert database.migrate(_content) == whole


def test_a_lost_revision_costs_no_rows(database: ManagedDatabase) -> None:
    database.migrate(schema.create)

    def lose(connection: Connection) -> None:
        connection.exec_driver_sql("DELETE FROM alembic_version")
        _add_classes(connection, ("class_1", "小一班", 1))

    database.migrate(lose)
    for work in (examine, upgrade):
        with pytest.raises(SchemaError, match="not one of ours"):
            database.migrate(work)
    assert database.migrate(_classes) == {"class_1": "小一班"}


def test_classes_of_one_name_are_told_apart_when_the_rule_arrives(database: ManagedDatabase) -> None:
    def as_before(connection: Connection) -> None:
        from alembic import command

        command.upgrade(alembic_config(connection), FIRST)
        long = "很" * 50
        _add_classes(connection, ("class_1", "小一班", 2), ("class_0", "小一班", 3), ("class_a", long, 1))
        _add_classes(connection, ("class_b0123456789abcdef", long, 1), ("class_2", "小二班", 1))

    database.migrate(as_before)
    database.migrate(upgrade)
    assert database.migrate(revision_of) == HEAD
    assert database.migrate(_classes) == {
        "class_1": "小一班",
        "class_0": "小一班 (class_0)",
        "class_2": "小二班",
        "class_a": "很" * 50,
        "class_b0123456789abcdef": "很" * 35 + " (456789abcdef)",
    }


def test_head_is_the_newest_revision(database: ManagedDatabase) -> None:
    scripts = database.migrate(lambda c: ScriptDirectory.from_config(alembic_config(c)))
    assert scripts.get_heads() == [HEAD]


def _add_classes(connection: Connection, *rows: tuple[str, str, int]) -> None:
    values = [{"tenant_id": "t", "id": id_, "name": name, "created_at": at} for id_, name, at in rows]
    with across_tenants("test"):
        connection.execute(insert(metadata.tables["classes"]), values)


def _classes(connection: Connection) -> dict[str, str]:
    classes = metadata.tables["classes"]
    with across_tenants("test"):
        rows = connection.execute(select(classes.c.id, classes.c.name))
        return {row.id: row.name for row in rows}


def _drop_everything(connection: Connection) -> None:
    for name in inspect(connection).get_table_names():
        connection.exec_driver_sql(f"DROP TABLE {name}")


def _content(connection: Connection) -> list[str]:
    """Every table, index and row; layout aside."""
    if connection.dialect.name == "sqlite":
        query = "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%'"
        found = [tuple(row) for row in connection.exec_driver_sql(query)]
        tables = [name for name, sql in found if sql.startswith("CREATE TABLE")]
    else:
        tables = [name for (name,) in connection.exec_driver_sql("SHOW TABLES")]
        made = [connection.exec_driver_sql(f"SHOW CREATE TABLE {name}").one()[1] for name in tables]
        # Each column and key is a line; which key was made first is of no account.
        found = [tuple(sorted(line.rstrip(",") for line in sql.splitlines())) for sql in made]
    rows = [(name, *connection.exec_driver_sql(f"SELECT * FROM {name}").all()) for name in tables]
    return sorted(" ".join(str(line).split()) for line in (*found, *rows))
