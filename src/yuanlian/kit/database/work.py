"""A write on its way: what its caller asked for, in the caller's context, and what came of it."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.orm import Session

from yuanlian.kit.tenancy.guard import TenantGuard


class Work:
    __slots__ = ("_context", "error", "future", "repeatable", "result", "uncertain", "work")

    def __init__(
        self, work: Callable[[Session], Any], future: asyncio.Future[Any], repeatable: bool = False
    ) -> None:
        self.work = work
        self.repeatable = repeatable
        self.uncertain = False
        """Whether a transaction with it may have been committed."""
        self.future = future
        self._context = contextvars.copy_context()
        self.result: Any = None
        self.error: BaseException | None = None

    def run(
        self,
        connection: Connection,
        guard: TenantGuard,
        *,
        alone: bool = False,
        session: type[Session] = Session,
    ) -> None:
        """In the transaction of ``connection``: kept whole or undone whole, by a savepoint of its own or,
        when it is ``alone`` there, with the transaction. An error is kept for its caller."""
        self._context.run(self._run, connection, guard, alone, session)

    def _run(self, connection: Connection, guard: TenantGuard, alone: bool, make: type[Session]) -> None:
        guard.enter(connection)
        self.result = self.error = None
        try:
            with make(
                connection,
                join_transaction_mode="rollback_only" if alone else "create_savepoint",
                expire_on_commit=False,
            ) as session:
                self.result = self.work(session)
                session.commit()
        except Exception as error:  # noqa: BLE001 - handed to the caller who awaits it
            self.error = error

    def resolve(self) -> None:
        if self.future.done():
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.result)
