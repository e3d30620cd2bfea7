"""SQLite: one writer thread with group commit, a few reader threads, WAL, ``synchronous=FULL``."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import queue
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.orm import Session

from yuanlian.kit.database.work import Work
from yuanlian.kit.tenancy.guard import TenantGuard

T = TypeVar("T")

GROUP_LIMIT = 64
"""Works per transaction; more wait for the next, so that one group's latency stays bounded."""
READERS = 2
LOCKED_S = 10.0
"""How long a lock of somebody else is waited for."""


class SqliteDatabase:
    """The embedded ``Database``. ``path`` is created when missing."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._writer = _engine(path, read_only=False)
        self._reader = _engine(path, read_only=True)
        self._write_guard = TenantGuard(self._writer)
        self._read_guard = TenantGuard(self._reader)
        self._works: queue.SimpleQueue[Work | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="sqlite-read")

    def __str__(self) -> str:
        return str(self.path)

    async def read(self, work: Callable[[Session], T]) -> T:
        context = contextvars.copy_context()
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._readers, context.run, self._run_read, work)

    async def write(self, work: Callable[[Session], T], *, repeatable: bool = False) -> T:  # noqa: ARG002
        # Of its own COMMIT a process always knows the outcome, so nothing need be repeated.
        if self._thread is None:
            self._thread = threading.Thread(target=self._write_loop, name="sqlite-write", daemon=True)
            self._thread.start()
        item = Work(work, asyncio.get_running_loop().create_future())
        self._works.put(item)
        result: T = await item.future
        return result

    async def ping(self) -> None:
        await self.read(lambda session: session.connection().exec_driver_sql("SELECT 1"))

    async def close(self) -> None:
        if self._thread is not None:
            self._works.put(None)
            await asyncio.to_thread(self._thread.join)
            self._thread = None
        self._readers.shutdown()
        self._writer.dispose()
        self._reader.dispose()

    def migrate(self, upgrade: Callable[[Connection], T]) -> T:
        """Runs a schema change on its own connection, before the platform serves."""
        with self._writer.begin() as connection:
            return upgrade(connection)

    def _run_read(self, work: Callable[[Session], T]) -> T:
        with self._reader.connect() as connection:
            self._read_guard.enter(connection)
            with Session(connection) as session:
                return work(session)

    def _write_loop(self) -> None:
        """Ends with ``close`` alone: without this thread every write would wait for ever."""
        connection: Connection | None = None
        closing = False
        while not closing:
            group, closing = self._next_group()
            if not group:
                break
            try:
                connection = connection or self._writer.connect()
            except Exception as error:  # noqa: BLE001 - each must hear it; the next group tries again
                for item in group:
                    item.error = error
            else:
                _commit(connection, group, self._write_guard)
            _answer(group)
        if connection is not None:
            connection.close()

    def _next_group(self) -> tuple[list[Work], bool]:
        """Waits for one work, then takes what is already there: the group commit."""
        first = self._works.get()
        if first is None:
            return [], True
        group = [first]
        with contextlib.suppress(queue.Empty):
            while len(group) < GROUP_LIMIT:
                item = self._works.get_nowait()
                if item is None:
                    return group, True
                group.append(item)
        return group, False


def _commit(connection: Connection, group: list[Work], guard: TenantGuard) -> None:
    try:
        with connection.begin():
            for item in group:
                item.run(connection, guard)
    except Exception as error:  # noqa: BLE001 - nobody in the group was stored; each must hear it
        for item in group:
            item.error = item.error or error
        # Whatever state the failed COMMIT left behind goes with its connection.
        connection.invalidate()


def _answer(group: list[Work]) -> None:
    """Wakes each waiting loop once for all its works."""
    by_loop: dict[asyncio.AbstractEventLoop, list[Work]] = {}
    for item in group:
        by_loop.setdefault(item.future.get_loop(), []).append(item)
    for loop, items in by_loop.items():
        # The loop may have been closed while its last write was committed.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(_resolve_all, items)


def _resolve_all(items: list[Work]) -> None:
    for item in items:
        item.resolve()


def _use_wal(cursor: sqlite3.Cursor) -> None:
    """The mode is the file's, for good. While one connection sets it in a new file, another hears at once
    that it is locked: SQLite does not wait here."""
    deadline = time.monotonic() + LOCKED_S
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.002)
        else:
            return


def _engine(path: Path, *, read_only: bool) -> Engine:
    path.parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(
        f"sqlite:///{path}",
        connect_args={"check_same_thread": False, "timeout": LOCKED_S},
        pool_size=READERS if read_only else 1,
        max_overflow=0 if read_only else 1,
        pool_reset_on_return="rollback",
    )

    @event.listens_for(engine, "connect")
    def _pragmas(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # transactions are begun below, not by the driver
        cursor = connection.cursor()
        _use_wal(cursor)
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.execute("PRAGMA foreign_keys=ON")
        # Taken as needed, so a small database costs little: pages stay in memory from one group to
        # the next, are read without a system call, and reach the file less often than they change.
        cursor.execute("PRAGMA cache_size=-65536")
        cursor.execute("PRAGMA mmap_size=268435456")
        cursor.execute("PRAGMA wal_autocheckpoint=10000")
        cursor.execute("PRAGMA journal_size_limit=67108864")
        if read_only:
            cursor.execute("PRAGMA query_only=ON")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")

    return engine
