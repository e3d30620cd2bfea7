"""Servers of one machine leave each other's temporary tables alone."""

from __future__ import annotations

import asyncio
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine
from tests.support import servers

from deploy.servers.mariadb import MariaDb


def test_a_server_that_starts_takes_no_temporary_table_from_another(tmp_path: Path) -> None:
    servers.need(MariaDb)
    first, second = MariaDb(tmp_path / "first"), MariaDb(tmp_path / "second")
    first.start()
    try:
        asyncio.run(_keep_one_while(first, second))
    finally:
        first.stop()


async def _keep_one_while(first: MariaDb, second: MariaDb) -> None:
    engine = create_async_engine(first.url)
    async with engine.connect() as connection:
        await connection.execute(text("CREATE TEMPORARY TABLE kept (words TEXT) ENGINE = Aria"))
        await connection.execute(text("INSERT INTO kept VALUES ('still here')"))
        await asyncio.to_thread(second.start)
        await asyncio.to_thread(second.stop)
        assert (await connection.execute(text("SELECT words FROM kept"))).scalar_one() == "still here"
        await connection.execute(text("DROP TEMPORARY TABLE kept"))
    await engine.dispose()
