"""The migrations make the tables that the services declare, and so does the short way."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from yuanlian.kit.database.sqlite import SqliteDatabase
from yuanlian.runtime import schema
from yuanlian.runtime.schema import HEAD, SchemaError, alembic_config, metadata, revision_of, upgrade


@pytest.mark.parametrize("make", [schema.create, schema.migrate, upgrade])
def test_a_database_has_exactly_the_declared_tables(
    tmp_path: Path, make: Callable[[Connection], None]
) -> None:
    def differences(connection: Connection) -> list[Any]:
        make(connection)
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        return list(compare_metadata(context, metadata))

    database = SqliteDatabase(tmp_path / "new.db")
    try:
        assert database.migrate(differences) == []
        assert database.migrate(revision_of) == HEAD
        before = _content(database.path)
        database.migrate(upgrade)  # a second time changes nothing
        assert _content(database.path) == before
    finally:
        asyncio.run(database.close())


def test_both_ways_to_a_new_database_make_the_same_one(tmp_path: Path) -> None:
    at_once = _made(tmp_path / "at-once.db", schema.create)
    step_by_step = _made(tmp_path / "step-by-step.db", schema.migrate)
    assert at_once == step_by_step


def test_tables_that_nobody_vouches_for_are_not_built_upon(tmp_path: Path) -> None:
    def foreign(connection: Connection) -> None:
        metadata.tables["tenants"].create(connection)

    database = SqliteDatabase(tmp_path / "foreign.db")
    try:
        database.migrate(foreign)
        before = _content(database.path)
        with pytest.raises(SchemaError, match="not one of ours"):
            database.migrate(upgrade)
        assert _content(database.path) == before
    finally:
        asyncio.run(database.close())


def test_a_database_of_a_newer_release_is_refused_and_left_alone(tmp_path: Path) -> None:
    database = SqliteDatabase(tmp_path / "new.db")
    try:
        database.migrate(upgrade)
        with closing(sqlite3.connect(database.path)) as connection, connection:
            connection.execute("UPDATE alembic_version SET version_num = '9999'")
        before = _content(database.path)
        with pytest.raises(SchemaError, match="9999"):
            database.migrate(upgrade)
        assert _content(database.path) == before
    finally:
        asyncio.run(database.close())


def _made(path: Path, make: Callable[[Connection], None]) -> list[str]:
    database = SqliteDatabase(path)
    try:
        database.migrate(make)
    finally:
        asyncio.run(database.close())
    return _content(path)


def _content(path: Path) -> list[str]:
    """Every table, index, trigger and row, as SQL; layout aside."""
    with closing(sqlite3.connect(path)) as connection:
        return sorted(" ".join(line.split()) for line in connection.iterdump())


def test_head_is_the_newest_revision(tmp_path: Path) -> None:
    database = SqliteDatabase(tmp_path / "head.db")
    try:
        scripts = database.migrate(lambda c: ScriptDirectory.from_config(alembic_config(c)))
        assert scripts.get_heads() == [HEAD]
    finally:
        asyncio.run(database.close())
