"""The migrations make the tables that the services declare."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from yuanlian.kit.database.sqlite import SqliteDatabase
from yuanlian.runtime.schema import HEAD, alembic_config, metadata, revision_of, upgrade


def test_an_upgraded_database_has_exactly_the_declared_tables(tmp_path: Path) -> None:
    def differences(connection: Connection) -> list[Any]:
        upgrade(connection)
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        return list(compare_metadata(context, metadata))

    database = SqliteDatabase(tmp_path / "new.db")
    try:
        assert database.migrate(differences) == []
        assert database.migrate(revision_of) == HEAD
        database.migrate(upgrade)  # a second time changes nothing
    finally:
        asyncio.run(database.close())


def test_head_is_the_newest_revision(tmp_path: Path) -> None:
    database = SqliteDatabase(tmp_path / "head.db")
    try:
        scripts = database.migrate(lambda c: ScriptDirectory.from_config(alembic_config(c)))
        assert scripts.get_heads() == [HEAD]
    finally:
        asyncio.run(database.close())
