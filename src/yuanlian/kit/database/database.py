"""The database as services see it: a use case is a function of a ``Session``.

The function runs off the event loop (SQLite: in the database's own threads; an asynchronous driver:
under SQLAlchemy's greenlet bridge, ``AsyncSession.run_sync``), so services are written once, and one
use case is one hop instead of one per statement. Measured: decision record 0002.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from sqlalchemy import Connection
from sqlalchemy.orm import Session

from yuanlian.kit.errors import DependencyAwayError, ServiceUnavailableError
from yuanlian.kit.i18n import Text

T = TypeVar("T")
P = ParamSpec("P")


class DatabaseUnavailableError(DependencyAwayError):
    """The database is away. Nothing was stored."""

    text = Text("数据库暂不可用，请稍后重试", "The database is unavailable, try again later")


class DatabaseBusyError(ServiceUnavailableError):
    """It took too long, or others had locked what it needs, also when it was tried again. Nothing was
    stored; something else may well be."""

    text = DatabaseUnavailableError.text


class OutcomeUnknownError(DependencyAwayError):
    """The connection ended while the transaction was being committed: it was stored whole or not at all,
    and nobody can say which. Repeating is safe where a repeat is recognised (``Idempotency-Key``, an event
    id, the inbox)."""

    text = Text(
        "连接中断，无法确认是否已保存；请用同一幂等键重试",
        "The connection was lost and it is not known whether this was stored; repeat it with the same key",
    )


class DatabaseRefusedError(Exception):
    """The database cannot be used as it is set; the message says what to do, and holds no secret."""


class Database(Protocol):
    """``work`` sees the caller's context (tenant scope, request) and must not keep the session. It may
    be run more than once until it is stored, so it has no effect but through the session.

    Tenant-owned tables are limited to the scope of the caller by the database itself, whatever the
    statement says; without a scope the statement raises ``TenantRequiredError`` before any SQL.
    """

    async def read(self, work: Callable[[Session], T]) -> T:
        """Runs ``work`` on a consistent snapshot. Writing raises."""
        ...

    async def write(self, work: Callable[[Session], T], *, repeatable: bool = False) -> T:
        """Runs ``work`` in a transaction and returns after it is durable.

        Concurrent calls may share one transaction (group commit), each in its own savepoint: one
        that raises is undone alone and its exception is its caller's. Do no slow work inside.
        ``repeatable``: the work recognises, by a key that its caller has fixed, that it was stored before,
        and then changes nothing; it may be run again when nobody knows whether it was.

        Raises:
            DatabaseUnavailableError, DatabaseBusyError: it was not stored, also after some seconds of trying
                again.
            OutcomeUnknownError: it may have been stored; a ``repeatable`` work hears this only when also
                trying again for some seconds has not told.
        """
        ...

    async def ping(self) -> None:
        """Raises when the database does not answer."""
        ...

    async def close(self) -> None: ...


class ManagedDatabase(Database, Protocol):
    """As the composition root has it."""

    def migrate(self, upgrade: Callable[[Connection], T]) -> T:
        """Runs a schema change on a connection of its own, before the platform serves. Blocks.

        Raises:
            DatabaseRefusedError: nobody answers there, or not to us.
        """
        ...


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
