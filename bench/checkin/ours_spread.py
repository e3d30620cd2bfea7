"""园联 as ``make up-distributed`` starts it: a process per service, over MariaDB, RabbitMQ and Redis."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import aio_pika

from bench.checkin.contender import Count, Served
from bench.checkin.dataset import SECRET, Dataset
from bench.checkin.ours import effects
from bench.checkin.roster import insert_roster
from bench.checkin.spread import Spread
from deploy.distributed import Distributed, settings_for
from yuanlian.kit.database.mysql import MysqlDatabase
from yuanlian.runtime.schema import upgrade

QUEUES = ("attendance.queue", "notification.queue", "analytics.queue")


class YuanlianSpread(Spread):
    name = "园联 yuanlian, distributed"
    ours = True

    def fill(self, database: MysqlDatabase, dataset: Dataset) -> None:
        database.migrate(upgrade)
        database.migrate(lambda connection: insert_roster(connection, dataset))

    @contextmanager
    def serving(self) -> Iterator[Served]:
        urls = settings_for(self.mariadb, self.rabbitmq, self.redis)
        settings = {"YUANLIAN_JWT_SECRET": SECRET}
        platform = Distributed(self.directory / "platform", urls, demo=False, settings=settings)
        try:
            platform.start()
            own = {name: part.process.pid for name, part in platform.parts.items() if part.process}
            yield Served(platform.port, own | self.server_processes)
        finally:
            platform.stop()

    def work_left(self, count: Count) -> bool:
        return bool(count("EXISTS (SELECT 1 FROM outbox)")) or asyncio.run(self._is_waiting())

    def effects(self, count: Count) -> dict[str, int]:
        return effects(count)

    def log_tail(self) -> str:
        logs = sorted((self.directory / "platform").glob("*.log"))
        lines = [
            f"{log.stem}: {line}"
            for log in logs
            for line in log.read_text(errors="replace").splitlines()
            if '"level":"info"' not in line
        ]
        return "\n".join(lines[-20:])

    async def _is_waiting(self) -> bool:
        """Whether RabbitMQ has something that no consumer has been given yet."""
        async with await aio_pika.connect(self.rabbitmq.url) as connection:
            channel = await connection.channel()
            counts = [(await channel.declare_queue(queue, passive=True)) for queue in QUEUES]
            return any(queue.declaration_result.message_count for queue in counts)
