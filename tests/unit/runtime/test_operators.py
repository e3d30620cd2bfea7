"""The operators' commands where the database is a server, which others use at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import Connection, inspect
from tests.support.command_line import Run, run
from tests.support.databases import open_database, url_of, using
from typer.testing import Result

from yuanlian.kit.database.database import ManagedDatabase
from yuanlian.kit.database.sqlite import SqliteDatabase
from yuanlian.runtime.datadir import DataDirLock
from yuanlian.runtime.operators import OperatorRefusedError, create_operator
from yuanlian.runtime.schema import HEAD, upgrade
from yuanlian.runtime.settings import Settings

__all__ = ["run"]

CREATE = ("tenants", "create-operator", "chief", "--password-stdin")
PASSWORD = "the chief's password"
PRODUCTION = {"env": "production", "jwt_secret": "s" * 40}
TAKEN = (
    "INSERT INTO users (id, username, password_hash, chose_password, status, created_at)"
    " VALUES ('user_1', 'chief', 'x', 1, 'active', 1)"
)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[ManagedDatabase]:
    """On MariaDB, without a table."""
    with using("mariadb"):
        database = open_database(tmp_path / "server.db")
        database.migrate(_drop_everything)
        yield database
        database.migrate(_drop_everything)
        asyncio.run(database.close())


@pytest.fixture
def url(database: ManagedDatabase, tmp_path: Path) -> str:
    del database
    return url_of(tmp_path / "server.db")


def _drop_everything(connection: Connection) -> None:
    for name in inspect(connection).get_table_names():
        connection.exec_driver_sql(f"DROP TABLE {name}")


def _rows(database: ManagedDatabase, query: str) -> list[tuple[object, ...]]:
    return database.migrate(lambda connection: [tuple(row) for row in connection.exec_driver_sql(query)])


def _seats(database: ManagedDatabase) -> list[tuple[object, ...]]:
    query = "SELECT username, tenant_id FROM users JOIN memberships ON user_id = id ORDER BY username"
    return _rows(database, query)


def test_the_first_operator_is_made_beside_whoever_uses_the_server(
    run: Run, database: ManagedDatabase, url: str, tmp_path: Path
) -> None:
    """It opened a SQLite file, whatever the settings named, and held the data directory for it."""
    with DataDirLock(tmp_path / "data"):
        made = run(*CREATE, stdin=PASSWORD, database_url=url, data_dir="data", **PRODUCTION)
        listed = run("tenants", database_url=url, data_dir="data")
    assert (made.exit_code, made.stderr) == (0, "")
    assert "platform" in listed.stdout
    assert _seats(database) == [("chief", "platform")]
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["yuanlian.lock"]

    again = run(*CREATE, stdin=PASSWORD, database_url=url)
    assert (again.exit_code, again.stderr) == (1, "yuanlian: the username chief is taken\n")


def test_of_operators_made_at_once_each_name_is_made_once_and_whole(
    database: ManagedDatabase, url: str
) -> None:
    """On a server without a table yet: one of them makes the schema, too."""
    names = ["chief", "Chief", "deputy", "chief"]
    settings = Settings(database_url=url)

    def create(name: str) -> str:
        try:
            asyncio.run(create_operator(settings, name, PASSWORD, name))
        except OperatorRefusedError as error:
            return str(error)
        return "made"

    with ThreadPoolExecutor(len(names)) as threads:
        said = list(threads.map(create, names))
    assert (said.count("made"), said[2]) == (2, "made")
    assert all("is taken" in each for each in said if each != "made")
    assert _seats(database) == [("chief", "platform"), ("deputy", "platform")]
    assert _rows(database, "SELECT id FROM tenants") == [("platform",)]
    assert len(_rows(database, "SELECT id FROM users")) == 2


def test_a_name_that_is_taken_leaves_nothing_half_written(
    run: Run, database: ManagedDatabase, url: str
) -> None:
    database.migrate(upgrade)
    database.migrate(lambda connection: connection.exec_driver_sql(TAKEN))
    refused = run(*CREATE, stdin=PASSWORD, database_url=url)
    assert (refused.exit_code, refused.stderr) == (1, "yuanlian: the username chief is taken\n")
    assert _rows(database, "SELECT id FROM tenants") == []


@pytest.mark.parametrize("on", ["sqlite", "mariadb"])
def test_a_database_of_another_release_is_left_to_whoever_upgrades(
    run: Run, request: pytest.FixtureRequest, tmp_path: Path, on: str
) -> None:
    """Services of that release may run on it."""
    if on == "sqlite":
        database: ManagedDatabase = SqliteDatabase(tmp_path / "data" / "yuanlian.db")
        settings = {"data_dir": "data"}
    else:
        database = request.getfixturevalue("database")
        settings = {"database_url": request.getfixturevalue("url")}
    database.migrate(upgrade)
    older = "UPDATE alembic_version SET version_num = '0001'"
    database.migrate(lambda connection: connection.exec_driver_sql(older))
    refused = run(*CREATE, stdin=PASSWORD, **settings)
    assert refused.exit_code == 1
    assert "has schema 0001" in refused.stderr
    assert "migrate it first" in refused.stderr
    assert _rows(database, "SELECT id FROM users") == []
    asyncio.run(database.close())


def test_a_server_is_looked_after_whoever_holds_the_data_directory(
    run: Run, database: ManagedDatabase, url: str, tmp_path: Path
) -> None:
    del database
    with DataDirLock(tmp_path / "data"):
        migrated = run("migrate", database_url=url, data_dir="data")
        letters = run("dead-letters", "list", database_url=url, data_dir="data")
    assert (migrated.exit_code, migrated.stdout) == (0, f"schema None -> {HEAD}\n")
    assert (letters.exit_code, letters.stdout) == (0, "no dead letters\n")


def test_nobody_is_made_while_somebody_else_holds_the_name(
    run: Run, database: ManagedDatabase, url: str
) -> None:
    """For longer than a write is tried, that is; the command ended with a traceback."""
    database.migrate(upgrade)

    def meanwhile(connection: Connection) -> Result:
        connection.exec_driver_sql("DO RELEASE_ALL_LOCKS()")  # whoever migrates holds one
        connection.exec_driver_sql(TAKEN)
        with ThreadPoolExecutor(1) as thread:
            result = thread.submit(run, *CREATE, stdin=PASSWORD, database_url=url).result()
        connection.rollback()
        return result

    refused = database.migrate(meanwhile)
    assert (refused.exit_code, refused.stderr) == (
        1,
        "yuanlian: The database is unavailable, try again later\n",
    )
    assert _rows(database, "SELECT id FROM users") == []
