"""The distributed platform with servers of its own: other tests empty the ones that they share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support import servers

from deploy.distributed import Distributed, settings_for
from deploy.servers.mariadb import MariaDb
from deploy.servers.rabbitmq import RabbitMq
from deploy.servers.redis import Redis


@dataclass
class Installation:
    """All of it, to be broken in parts."""

    database: MariaDb
    broker: RabbitMq
    redis: Redis
    platform: Distributed


@contextmanager
def installed(
    folder: Path,
    *,
    demo: bool = True,
    replicas: dict[str, int] | None = None,
    settings: dict[str, str] | None = None,
) -> Iterator[Installation]:
    """Skips where a server is not installed."""
    for server in (MariaDb, RabbitMq, Redis):
        servers.need(server)
    database, broker = MariaDb(folder / "mariadb"), RabbitMq(folder / "rabbitmq")
    redis = Redis(folder / "redis")
    started = []
    try:
        for each in (database, broker, redis):
            started.append(each)
            each.start()
        platform = Distributed(
            folder / "platform",
            settings_for(database, broker, redis),
            demo=demo,
            replicas=replicas,
            settings=settings,
        )
        try:
            platform.start()
            yield Installation(database, broker, redis, platform)
        finally:
            platform.stop()
    finally:
        for each in reversed(started):
            each.stop()
