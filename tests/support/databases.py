"""A database for a test, in the technology that the test runs with.

``technology`` is a fixture for ``conftest.py`` of tests that run with every one of them; elsewhere a test
gets SQLite. MariaDB's databases are used again by later tests, emptied: making one takes longer than most
tests.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Connection
from tests.support import servers

from yuanlian.kit.database.database import ManagedDatabase
from yuanlian.kit.database.mysql import MysqlDatabase
from yuanlian.kit.database.schema import Base
from yuanlian.kit.database.sqlite import SqliteDatabase

TECHNOLOGIES = ("sqlite", "mariadb")

_current = ["sqlite"]
_free: list[str] = []
_made: list[str] = []


@contextmanager
def using(technology: str) -> Iterator[None]:
    """What ``open_database`` opens; MariaDB's databases are free again at the end."""
    if technology == "mariadb":
        servers.mariadb()
    before, _current[0] = _current[0], technology
    _of_path.clear()
    try:
        yield
    finally:
        _current[0] = before
        _free.extend(_of_path.values())
        _of_path.clear()


_of_path: dict[Path, str] = {}


@pytest.fixture(params=TECHNOLOGIES)
def technology(request: pytest.FixtureRequest) -> Iterator[str]:
    with using(request.param):
        yield request.param


def open_database(path: Path) -> ManagedDatabase:
    """An empty one the first time; afterwards, within a test, the one of that path. Tables are the
    caller's to make, and may be there already."""
    if _current[0] == "sqlite":
        return SqliteDatabase(path)
    if path in _of_path:
        return MysqlDatabase(servers.mariadb().url_of(_of_path[path]))
    path.parent.mkdir(parents=True, exist_ok=True)
    # A folder that is gone was the example of a property test, which is over.
    _free.extend([_of_path.pop(left) for left in list(_of_path) if not left.parent.exists()])
    _of_path[path] = name = _free.pop() if _free else _new()
    database = MysqlDatabase(servers.mariadb().url_of(name))
    database.migrate(_empty)
    return database


def url_of(path: Path) -> str:
    """Of a database that ``open_database`` has opened, for another process."""
    return f"sqlite:///{path}" if _current[0] == "sqlite" else servers.mariadb().url_of(_of_path[path])


def _new() -> str:
    name = f"yuanlian_{len(_made)}"
    _made.append(name)
    MysqlDatabase(servers.mariadb().url).migrate(
        lambda connection: connection.exec_driver_sql(f"CREATE DATABASE {name} CHARACTER SET utf8mb4")
    )
    return name


def _empty(connection: Connection) -> None:
    for (table,) in connection.exec_driver_sql("SHOW TABLES").all():
        # What a test has declared for itself may be declared otherwise by the next one.
        kept = table in Base.metadata.tables
        connection.exec_driver_sql(f"DELETE FROM {table}" if kept else f"DROP TABLE {table}")
    counted = "SELECT table_name FROM information_schema.tables WHERE auto_increment > 1"
    for (table,) in connection.exec_driver_sql(f"{counted} AND table_schema = DATABASE()").all():
        connection.exec_driver_sql(f"ALTER TABLE {table} AUTO_INCREMENT = 1")
