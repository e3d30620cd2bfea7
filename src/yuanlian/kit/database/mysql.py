"""MySQL and MariaDB: group commit at READ COMMITTED, reads on a snapshot, short outages waited out.

A transaction that the server gives up (deadlock, lock wait) or loses with its connection before COMMIT
was sent has changed nothing, and is run again: works are functions. When the connection ends after
COMMIT was sent, nobody knows: what is ``repeatable`` is run again, the callers of the rest hear
``OutcomeUnknownError``. Decision record 0012.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from sqlalchemy import Connection, event
from sqlalchemy.engine.interfaces import ExceptionContext
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.orm import ORMExecuteState, Session
from sqlalchemy.util import greenlet_spawn

from yuanlian.kit.database.database import (
    DatabaseBusyError,
    DatabaseRefusedError,
    DatabaseUnavailableError,
    OutcomeUnknownError,
)
from yuanlian.kit.database.group_commit import GroupCommit
from yuanlian.kit.database.mysql_connections import CONNECT_S, mysql_engine, mysql_url
from yuanlian.kit.database.mysql_server import (
    CONFLICTS,
    DUPLICATE,
    TOO_LONG,
    Checked,
    address,
    checked,
    code_of,
    is_away,
    is_refusal,
    refusal,
    use_our_collation,
    version_of,
)
from yuanlian.kit.database.work import Work
from yuanlian.kit.errors import ServiceUnavailableError
from yuanlian.kit.tenancy.guard import TenantGuard

T = TypeVar("T")

GROUP_LIMIT = 64
WRITERS = 3
READERS = 8
WHOLE_S = 20.0
"""A read or a transaction, from its first to its last statement; the server's own limits are shorter."""
PATIENCE_S = 8.0
"""How long a caller waits while the server is away or gives its transactions up."""
MIGRATION_S = 3600
LOCK_S = 60
"""So long another process may be at the schema."""
BUSY = f"another process has been changing the schema for {LOCK_S} s: wait for its end, then start again"


class _Attempt:
    """One try of one transaction."""

    __slots__ = ("committed", "committing", "given_up")

    def __init__(self) -> None:
        self.given_up: BaseException | None = None
        self.committing = False
        self.committed = False


class MysqlDatabase:
    """The distributed ``Database``. Make it anywhere, use it in one event loop.

    ``read`` and ``write`` run several works at once, each on a connection of its own, so that two works
    may see the same row before either changes it: what is loaded to be changed is locked while it is
    loaded (objects are by themselves, rows with ``with_for_update``), and a work whose key was taken
    between its look and its insert is run again.

    Raises:
        ValueError: ``url`` is not as ``mysql_url`` wants it.
    """

    def __init__(self, url: str, *, readers: int = READERS, writers: int = WRITERS) -> None:
        self._url = mysql_url(url)
        self._writer = mysql_engine(self._url, "READ-COMMITTED", pool_size=writers)
        self._reader = mysql_engine(self._url, "REPEATABLE-READ", read_only=True, pool_size=readers)
        self._write_guard = TenantGuard(self._writer)
        self._read_guard = TenantGuard(self._reader)
        event.listen(self._writer, "handle_error", _note_given_up)
        self._groups = GroupCommit(self._commit, writers, GROUP_LIMIT)
        self._read_slots = asyncio.Semaphore(readers)

    def __str__(self) -> str:
        return address(self._url)

    async def read(self, work: Callable[[Session], T]) -> T:
        patience = _Patience()
        while True:
            try:
                async with asyncio.timeout(WHOLE_S), self._read_slots:
                    return await greenlet_spawn(self._run_read, work)
            except (SQLAlchemyError, TimeoutError) as error:
                if is_away(error) and await patience.may_try_again():
                    continue
                heard = _as_heard(error)
                if heard is error:
                    raise
                raise heard from error

    async def write(self, work: Callable[[Session], T], *, repeatable: bool = False) -> T:
        item = Work(work, asyncio.get_running_loop().create_future(), repeatable)
        self._groups.submit(item)
        result: T = await item.future
        return result

    async def ping(self) -> None:
        await self.read(lambda session: session.connection().exec_driver_sql("SELECT 1"))

    async def close(self) -> None:
        await self._groups.finish()
        await greenlet_spawn(self._writer.dispose)
        await greenlet_spawn(self._reader.dispose)

    def migrate(self, upgrade: Callable[[Connection], T]) -> T:
        """Runs a schema change on its own connection, one process at a time; blocks the caller.

        Raises:
            DatabaseRefusedError: as ``check`` does, or another process is at it for too long.
        """
        return _in_own_loop(lambda: self._migrate(upgrade))

    async def check(
        self,
        read: Callable[[Connection], T],
        *,
        within_s: float = CONNECT_S,
        let_in: Callable[[], None] = lambda: None,
    ) -> Checked[T]:
        """What the server is, what the user may do there, and what ``read`` finds: without a lock, and on a
        connection that cannot write. ``within_s``: until it has taken the password; then ``let_in`` is
        called.

        Raises:
            DatabaseRefusedError: wrong address, password, database or version, and what to do.
        """
        engine = mysql_engine(self._url, "REPEATABLE-READ", read_only=True)
        TenantGuard(engine)

        def run() -> Checked[T]:
            with engine.connect() as connection:
                limit.reschedule(asyncio.get_running_loop().time() + WHOLE_S)
                let_in()
                return checked(connection, self._url.database or "", read)

        try:
            async with asyncio.timeout(within_s) as limit:
                return await greenlet_spawn(run)
        except (SQLAlchemyError, TimeoutError) as error:
            raise refusal(error, self._url) from None

    # -- reading ------------------------------------------------------------------------------

    def _run_read(self, work: Callable[[Session], T]) -> T:
        # The session's end is the transaction's; it began with the first statement.
        with self._reader.connect() as connection:
            self._read_guard.enter(connection)
            with Session(connection) as session:
                return work(session)

    # -- writing ------------------------------------------------------------------------------

    async def _commit(self, works: Sequence[Work]) -> None:
        for work in await self._commit_together(works):
            await self._commit_together([work])

    async def _commit_together(self, works: Sequence[Work]) -> Sequence[Work]:
        """Leaves in every work what its caller is to hear, but for those that it returns: each of them
        is worth a transaction of its own."""
        patience = _Patience()
        while True:
            attempt = _Attempt()
            error = await self._try(works, attempt)
            if error is None:
                return _settled(works)
            if attempt.committing and not _is_refused(error):
                for work in works:
                    work.uncertain = True
                repeatable = [work for work in works if work.repeatable]
                if len(repeatable) < len(works):
                    _all_hear([work for work in works if not work.repeatable], error)
                    return repeatable
            elif code_of(error) in CONFLICTS:
                if len(works) > 1:
                    return works  # one of them may be what the server gives up the others for
            elif not is_away(error):
                _all_hear(works, error)
                return ()
            if not await patience.may_try_again():
                _all_hear(works, error)
                return ()

    async def _try(self, works: Sequence[Work], attempt: _Attempt) -> BaseException | None:
        try:
            async with asyncio.timeout(WHOLE_S):
                await greenlet_spawn(self._run_transaction, works, attempt)
        except Exception as error:  # noqa: BLE001 - told to the callers, or tried again
            # What befell the transaction, not what its ruins led to.
            return None if attempt.committed else attempt.given_up or error
        return None

    def _run_transaction(self, works: Sequence[Work], attempt: _Attempt) -> None:
        alone = len(works) == 1
        with self._writer.connect() as connection:
            connection.execution_options(attempt=attempt)
            transaction = connection.begin()
            for work in works:
                work.run(connection, self._write_guard, alone=alone, session=_LockingSession)
                if attempt.given_up is not None:
                    raise attempt.given_up
            if alone and works[0].error is not None:
                if transaction.is_active:
                    transaction.rollback()
                return
            if transaction.is_active:  # else a work has ended it, and begun another one
                attempt.committing = True
                transaction.commit()
            attempt.committed = True

    # -- before the platform serves -----------------------------------------------------------

    async def _migrate(self, upgrade: Callable[[Connection], T]) -> T:
        engine = mysql_engine(self._url, "READ-COMMITTED", statement_s=MIGRATION_S)
        TenantGuard(engine)

        def run() -> T:
            with engine.connect() as connection:
                version_of(connection)
                lock = f"yuanlian {self._url.database}"[:64]
                if connection.exec_driver_sql(f"SELECT GET_LOCK(%s, {LOCK_S})", (lock,)).scalar() != 1:
                    raise DatabaseRefusedError(f"{self}: {BUSY}")
                use_our_collation(connection)
                result = upgrade(connection)
                connection.commit()
                return result  # the lock ends with the connection

        try:
            return await greenlet_spawn(run)
        except SQLAlchemyError as error:
            if is_refusal(error):
                raise refusal(error, self._url) from error
            raise
        finally:
            await greenlet_spawn(engine.dispose)


class _LockingSession(Session):
    """Objects are loaded in a write to be changed: nobody else changes them meanwhile."""


@event.listens_for(_LockingSession, "do_orm_execute")
def _lock(state: ORMExecuteState) -> None:
    if state.is_select and any(_is_object(column) for column in _columns(state)):
        state.statement = state.statement.with_for_update()  # type: ignore[attr-defined]


def _columns(state: ORMExecuteState) -> Sequence[dict[str, Any]]:
    return getattr(state.statement, "column_descriptions", ())


def _is_object(column: dict[str, Any]) -> bool:
    return "entity" in column and column["expr"] is column["entity"]


class _Patience:
    """Growing pauses with jitter, until ``PATIENCE_S`` have passed."""

    def __init__(self) -> None:
        self._until = time.monotonic() + PATIENCE_S
        self._pause = 0.005

    async def may_try_again(self) -> bool:
        if time.monotonic() > self._until:
            return False
        await asyncio.sleep(self._pause * random.uniform(0.5, 1.5))  # noqa: S311 - no secret
        self._pause = min(self._pause * 2, 0.5)
        return True


def _is_refused(error: BaseException) -> bool:
    """Whether the server has answered to a COMMIT, and so undone the transaction: a cluster tells of a
    conflict in this way."""
    return not is_away(error) and not isinstance(error, TimeoutError)


def _settled(works: Sequence[Work]) -> Sequence[Work]:
    again = [work for work in works if _lost_a_race(work)]
    for work in works:
        work.error = work.error and _as_heard(work.error)
    return again


def _as_heard(error: BaseException, *, uncertain: bool = False) -> BaseException:
    away = is_away(error) or isinstance(error, TimeoutError)
    if not away and code_of(error) not in TOO_LONG | CONFLICTS:
        return error
    heard: ServiceUnavailableError
    if uncertain:
        heard = OutcomeUnknownError()
    else:
        heard = DatabaseUnavailableError() if away else DatabaseBusyError()
    heard.__cause__ = error
    return heard


def _all_hear(works: Sequence[Work], error: BaseException) -> None:
    """A work that has failed by itself keeps its own error."""
    for work in works:
        if work.error is None or code_of(work.error) in CONFLICTS or is_away(work.error):
            work.error = _as_heard(error, uncertain=work.uncertain)


def _lost_a_race(work: Work) -> bool:
    return isinstance(work.error, IntegrityError) and code_of(work.error) == DUPLICATE


def _note_given_up(context: ExceptionContext) -> None:
    """Kept aside, because a work may meet it as some later error, or not at all."""
    if context.connection is None or not isinstance(context.original_exception, Exception):
        return  # without a connection, or told to stop waiting
    attempt = context.connection.get_execution_options().get("attempt")
    error = context.sqlalchemy_exception or context.original_exception
    lost = context.is_disconnect or code_of(context.original_exception) in CONFLICTS
    if lost and isinstance(attempt, _Attempt) and attempt.given_up is None:
        attempt.given_up = error


def _in_own_loop(run: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Whether or not the caller is inside a loop."""
    with ThreadPoolExecutor(1, thread_name_prefix="mysql") as thread:
        return thread.submit(lambda: asyncio.run(run())).result()
