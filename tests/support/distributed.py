"""The distributed platform: with servers of its own, or as a guest on those that tests share.

A guest is for one module: other tests of the same process empty the shared Redis.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from tests.support import servers

from deploy.distributed import Distributed, settings_for
from deploy.servers.mariadb import MariaDb
from deploy.servers.rabbitmq import USER, RabbitMq
from deploy.servers.redis import Redis
from yuanlian.kit.database.mysql import MysqlDatabase

_guests = count(1)


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


@contextmanager
def guest(
    folder: Path, *, cluster: bool = False, demo: bool = True, settings: dict[str, str] | None = None
) -> Iterator[Distributed]:
    """With a database and a virtual host of its own, and the whole Redis; ``cluster``: the one of three
    masters."""
    name = f"yuanlian_guest_{next(_guests)}"
    database, broker = servers.mariadb(), servers.rabbitmq()
    redis = servers.redis_cluster() if cluster else servers.redis()
    MysqlDatabase(database.url).migrate(
        lambda connection: connection.exec_driver_sql(f"CREATE DATABASE {name} CHARACTER SET utf8mb4")
    )
    broker.control("add_vhost", name)
    broker.control("set_permissions", "-p", name, USER, ".*", ".*", ".*")
    urls = {
        "YUANLIAN_DATABASE_URL": database.url_of(name),
        "YUANLIAN_BUS_URL": broker.url + name,
        "YUANLIAN_CACHE_URL": redis.url,
        "YUANLIAN_REGISTRY_URL": redis.url,
    }
    platform = Distributed(folder, urls, demo=demo, settings=settings)
    try:
        platform.start()
        yield platform
    finally:
        platform.stop()
        broker.control("delete_vhost", name)


def found_by(platform: Distributed) -> dict[str, str]:
    """The settings of one more gateway, or service, of the platform."""
    environment = platform.parts["gateway"].environment
    names = ("JWT_SECRET", "DATABASE_URL", "BUS_URL", "CACHE_URL", "REGISTRY_URL")
    return {name.lower(): environment[f"YUANLIAN_{name}"] for name in names}
