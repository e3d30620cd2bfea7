"""What has to be cleared away in a database that runs for years.

No ``ANALYZE`` (nor ``PRAGMA optimize``, which runs it): it would find the queue tables empty, and plans
made for empty tables read them from end to end when they are full. No checkpoint either: SQLite's own,
every 1,000 pages, keeps the write-ahead log short as long as reads are.
"""

from __future__ import annotations

import asyncio

import structlog

from yuanlian.kit.clock import Clock
from yuanlian.kit.database.database import Database
from yuanlian.kit.messaging import inbox

DAY_MS = 24 * 60 * 60 * 1000
INBOX_KEPT_MS = 7 * DAY_MS
"""Longer than all retries of a message take; then nobody delivers it a second time."""
EVERY_S = 300.0
"""Often, so that each time is short: the one writer does nothing else meanwhile."""

_log = structlog.get_logger("housekeeping")


async def tidy(database: Database, clock: Clock) -> int:
    """Forgets which messages were taken over a week ago; returns how many."""
    before = clock.now_ms() - INBOX_KEPT_MS
    forgotten = 0
    while count := await database.write(lambda session: inbox.prune(session, before)):
        forgotten += count
    return forgotten


async def keep_tidy(database: Database, clock: Clock, every_s: float = EVERY_S) -> None:
    """``tidy`` now and then, until cancelled."""
    while True:
        await asyncio.sleep(every_s)
        try:
            count = await tidy(database, clock)
        except Exception:  # noqa: BLE001 - a full disk, say; what is left is there the next time
            _log.exception("inbox not tidied")
        else:
            _log.debug("inbox tidied", forgotten=count)
