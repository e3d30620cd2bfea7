"""The database as services see it: a use case is a function of a ``Session``.

The function runs off the event loop (SQLite: in the database's own threads; an asynchronous driver:
under SQLAlchemy's greenlet bridge, ``AsyncSession.run_sync``), so services are written once, and one
use case is one hop instead of one per statement. Measured: decision record 0002.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from sqlalchemy.orm import Session

T = TypeVar("T")
P = ParamSpec("P")


class Database(Protocol):
    """``work`` sees the caller's context (tenant scope, request) and must not keep the session.

    Tenant-owned tables are limited to the scope of the caller by the database itself, whatever the
    statement says; without a scope the statement raises ``TenantRequiredError`` before any SQL.
    """

    async def read(self, work: Callable[[Session], T]) -> T:
        """Runs ``work`` on a consistent snapshot. Writing raises."""
        ...

    async def write(self, work: Callable[[Session], T]) -> T:
        """Runs ``work`` in a transaction and returns after it is durable.

        Concurrent calls may share one transaction (group commit), each in its own savepoint: one
        that raises is undone alone and its exception is its caller's. Do no slow work inside.
        """
        ...

    async def ping(self) -> None:
        """Raises when the database does not answer."""
        ...

    async def close(self) -> None: ...


class HasDatabase(Protocol):
    @property
    def database(self) -> Database: ...


S = TypeVar("S", bound=HasDatabase)


def reads(
    method: Callable[Concatenate[S, Session, P], T],
) -> Callable[Concatenate[S, P], Coroutine[Any, Any, T]]:
    """Makes ``def m(self, session, …) -> T`` an ``async`` method whose body is one read."""

    @wraps(method)
    async def run(self: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self.database.read(lambda session: method(self, session, *args, **kwargs))

    return run


def writes(
    method: Callable[Concatenate[S, Session, P], T],
) -> Callable[Concatenate[S, P], Coroutine[Any, Any, T]]:
    """Makes ``def m(self, session, …) -> T`` an ``async`` method whose body is one transaction."""

    @wraps(method)
    async def run(self: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self.database.write(lambda session: method(self, session, *args, **kwargs))

    return run
