"""Statements over many rows, for the few tables that are written and read thousands of times a second.

SQLAlchemy spends as long on the parameters of a row as the database on storing it. Here its statement
is compiled once per table and the rows go to the driver as they are: 8 instead of 12 us for a row of
sixteen columns (decision record 0006). The rows are held against the tenant scope all the same.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import lru_cache
from operator import itemgetter
from typing import Any, TypeVar

from sqlalchemy import Dialect, Insert, Table, insert
from sqlalchemy.orm import Session

from yuanlian.kit.tenancy.guard import check_rows

Key = TypeVar("Key")
Row = tuple[Any, ...]
"""A value for every column of the table, in its order, as a driver takes them: dates as ISO strings."""
_STEP = 32


def insert_rows(session: Session, table: Table, rows: Sequence[Row], statement: Insert | None = None) -> None:
    """Inserts ``rows`` in the caller's transaction. ``statement``: an INSERT into ``table`` that says
    what to do with those that are there already; without it they are an error.

    Raises:
        ForeignTenantError: a row of a tenant outside the scope; nothing is sent.
        sqlalchemy.exc.IntegrityError: the caller's savepoint is to be rolled back.
    """
    if not rows:
        return
    check_rows(table, rows)
    connection = session.connection()
    names = tuple(table.c.keys())
    if statement is None:
        statement = _plain(table)
        if connection.dialect.name != "sqlite":
            names, rows = _without_empty_columns(table, names, rows)
    connection.exec_driver_sql(_compiled(statement, connection.dialect, names), list(rows))


def few_lengths(keys: Collection[Key]) -> list[Key]:
    """The keys for an ``IN (…)``, the last of them repeated up to one of few lengths: every length is a
    statement of its own, which a database has to prepare before it can run it."""
    listed = list(keys)
    wanted = 1 << (len(listed) - 1).bit_length() if len(listed) < _STEP else -(-len(listed) // _STEP) * _STEP
    return listed + listed[-1:] * (wanted - len(listed))


def _without_empty_columns(
    table: Table, names: tuple[str, ...], rows: Sequence[Row]
) -> tuple[tuple[str, ...], Sequence[Row]]:
    """A column without a value in any row gives no type, and without types MariaDB takes no rows in binary:
    they would go as text, of which escaping and parsing JSON alone costs as much as all the rest."""
    empty = {at for at in _omissible(table) if all(row[at] is None for row in rows)}
    if not empty:
        return names, rows
    kept = [at for at in range(len(names)) if at not in empty]
    pick = itemgetter(*kept) if len(kept) > 1 else lambda row: (row[kept[0]],)
    return tuple(names[at] for at in kept), [pick(row) for row in rows]


@lru_cache(maxsize=100)
def _omissible(table: Table) -> tuple[int, ...]:
    """Places of the columns that are NULL, or numbered by the database, when nothing is said of them."""
    return tuple(
        at
        for at, column in enumerate(table.c)
        if (column.nullable or column is table.autoincrement_column) and column.server_default is None
    )


@lru_cache(maxsize=100)
def _plain(table: Table) -> Insert:
    return insert(table)


@lru_cache(maxsize=500)
def _compiled(statement: Insert, dialect: Dialect, names: tuple[str, ...]) -> str:
    return str(statement.compile(dialect=dialect, column_keys=names))
