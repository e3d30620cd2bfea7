"""The servers that tests need: private ones, started once per run and stopped with it."""

from __future__ import annotations

import atexit
import os
import tempfile
from contextlib import ExitStack
from functools import lru_cache
from pathlib import Path

import pytest

from deploy.servers.mariadb import MariaDb
from deploy.servers.rabbitmq import RabbitMq
from deploy.servers.redis import Redis, RedisCluster
from deploy.servers.server import Server

PATIENCE_S = 10.0
"""For one command: the machine may stand still for a second, and then no server has been away."""
REQUIRED = os.environ.get("YUANLIAN_REQUIRE_SERVERS") == "1"


_running = ExitStack()


def stop_all() -> None:
    """At the end of the session, while there is time: xdist kills a worker that takes long to end. Whatever
    stops one server, the others are stopped, too."""
    _running.close()


atexit.register(stop_all)  # of a session that has no end


@lru_cache(maxsize=1)
def scratch() -> Path:
    return Path(_running.enter_context(tempfile.TemporaryDirectory(prefix="yuanlian-servers-")))


def need(server: type[Server]) -> None:
    """Skips the test on a machine without the server; where servers are required, fails it."""
    if server.installed():
        return
    message = f"{server.name} is not installed"
    if REQUIRED:
        pytest.fail(message)
    pytest.skip(message)


def redis() -> Redis:
    """One for all tests, emptied for each caller. A test that stops or pauses one starts its own."""
    need(Redis)
    server = _redis()
    server.ask("FLUSHALL")
    return server


def redis_cluster() -> RedisCluster:
    need(Redis)
    cluster = _redis_cluster()
    for node in cluster.nodes:
        node.ask("FLUSHALL")
    return cluster


@lru_cache(maxsize=1)
def _redis() -> Redis:
    server = Redis(scratch() / "redis")
    server.start()
    _running.callback(server.stop)
    return server


@lru_cache(maxsize=1)
def _redis_cluster() -> RedisCluster:
    cluster = RedisCluster(scratch() / "redis-cluster")
    _running.callback(cluster.stop)
    cluster.start()
    return cluster


def rabbitmq() -> RabbitMq:
    """One for all tests. Each removes the queues it has made; one that stops the server, starts its own."""
    need(RabbitMq)
    return _rabbitmq()


def own_rabbitmq(directory: Path) -> RabbitMq:
    """For a test that stops, kills or pauses it; the caller stops it."""
    need(RabbitMq)
    server = RabbitMq(directory / "rabbitmq")
    server.start()
    return server


@lru_cache(maxsize=1)
def _rabbitmq() -> RabbitMq:
    server = RabbitMq(scratch() / "rabbitmq")
    _running.callback(server.stop)
    server.start()
    return server


def mariadb() -> MariaDb:
    """One for all tests; ``tests.support.databases`` gives each its own database there. One that stops
    the server, starts its own."""
    need(MariaDb)
    return _mariadb()


@lru_cache(maxsize=1)
def _mariadb() -> MariaDb:
    server = MariaDb(scratch() / "mariadb")
    _running.callback(server.stop)
    server.start()
    return server
