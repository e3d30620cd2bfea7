"""What the contenders of the distributed shape have in common: MariaDB, RabbitMQ and Redis of their own."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncmy
from sqlalchemy import Connection, inspect, make_url

from bench.checkin.contender import Contender, Count
from bench.checkin.dataset import Dataset
from deploy.servers.mariadb import MariaDb
from deploy.servers.rabbitmq import RabbitMq
from deploy.servers.redis import Redis
from deploy.servers.server import Server
from yuanlian.kit.database.mysql import MysqlDatabase
from yuanlian.kit.observe.logs import configure


class Spread(Contender):
    """Every side gets servers that are started for it in the same way, with the same durability, and
    stopped before the next one begins."""

    look_s = 0.05
    with_redis = True

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, None)
        self.mariadb = MariaDb(directory / "mariadb")
        self.rabbitmq = RabbitMq(directory / "rabbitmq")
        self.redis = Redis(directory / "redis")
        self._running: list[Server] = []

    def fill(self, database: MysqlDatabase, dataset: Dataset) -> None:
        """Makes the tables and the rows."""
        raise NotImplementedError

    def prepare(self, dataset: Dataset) -> None:
        configure("bench", "warn", sys.stderr)
        for server in self._servers():
            server.start()
            self._running.append(server)
        database = MysqlDatabase(self.mariadb.url)
        self.fill(database, dataset)
        database.migrate(_analyze)  # as a server does by itself some time after an import
        asyncio.run(database.close())

    def close(self) -> None:
        while self._running:
            self._running.pop().stop()

    @contextmanager
    def counting(self) -> Iterator[Count]:
        url = make_url(self.mariadb.url)
        with asyncio.Runner() as runner:
            connection = runner.run(
                _connect(url.host or "", url.port or 0, url.username or "", url.password or "", url.database)
            )
            try:
                yield lambda what: runner.run(_count(connection, what))
            finally:
                connection.close()

    @property
    def server_processes(self) -> dict[str, int]:
        named = {"mariadb": "mariadbd", "rabbitmq": "beam"}
        return {
            named.get(server.name, server.name): server.process.pid
            for server in self._running
            if server.process is not None
        }

    def _servers(self) -> list[Server]:
        return [self.mariadb, self.rabbitmq, *([self.redis] if self.with_redis else [])]


def _analyze(connection: Connection) -> None:
    tables = inspect(connection).get_table_names()
    connection.exec_driver_sql(f"ANALYZE TABLE {', '.join(tables)}").all()


async def _connect(
    host: str, port: int, user: str, password: str, database: str | None
) -> asyncmy.Connection:
    # Every question sees what is committed by then.
    return await asyncmy.connect(
        host=host, port=port, user=user, password=password, db=database, autocommit=True
    )


async def _count(connection: asyncmy.Connection, what: str) -> int:
    async with connection.cursor() as cursor:
        await cursor.execute(f"SELECT {what}")
        (number,) = await cursor.fetchone()
        return int(number or 0)
