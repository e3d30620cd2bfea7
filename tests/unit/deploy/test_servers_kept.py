"""What servers keep in their directory from one ``make servers``, or ``make up-distributed``, to the next."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
from pathlib import Path

import aio_pika
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine
from tests.support import servers

from deploy.servers.mariadb import MariaDb
from deploy.servers.rabbitmq import RabbitMq
from deploy.servers.redis import Redis, RedisCluster
from deploy.servers.server import Server, ServerError, quiet_ports


def test_a_broker_of_the_next_run_has_the_messages_of_the_last(tmp_path: Path) -> None:
    """The node was named after a random port, and its data after the node: each run began with nothing."""
    servers.need(RabbitMq)
    directories = []
    for run in range(2):
        server = RabbitMq(tmp_path)
        server.start()
        try:
            assert asyncio.run(_kept(server.url)) == [b"%d" % number for number in range(run)]
            asyncio.run(_publish(server.url, b"%d" % run))
        finally:
            server.stop()
        directories.append(sorted((tmp_path / "mnesia").iterdir()))
    assert directories[0] == directories[1]


def test_brokers_side_by_side_do_not_meet(tmp_path: Path) -> None:
    servers.need(RabbitMq)
    first, second = RabbitMq(tmp_path / "first"), RabbitMq(tmp_path / "second")
    try:
        first.start()
        second.start()
        asyncio.run(_publish(first.url, b"of the first"))
        assert asyncio.run(_kept(second.url)) == []
        assert asyncio.run(_kept(first.url)) == [b"of the first"]
        second.stop()
        assert first.answers()
    finally:
        first.stop()
        second.stop()


def test_a_database_of_the_next_run_has_the_rows_of_the_last(tmp_path: Path) -> None:
    servers.need(MariaDb)
    for run in range(2):
        server = MariaDb(tmp_path)
        server.start()
        try:
            assert asyncio.run(_rows_with_one_more(server.url)) == run + 1
        finally:
            server.stop()


def test_a_server_is_found_where_it_was(tmp_path: Path) -> None:
    servers.need(Redis)
    first = Redis(tmp_path)
    first.start()
    first.stop()
    assert Redis(tmp_path).url == first.url
    with socket.create_server(("127.0.0.1", first.port)):
        assert Redis(tmp_path).port != first.port, "another has it now"
    (tmp_path / "port").write_text("")  # as a full disk leaves it
    assert Redis(tmp_path).port


def test_ports_that_nobody_listens_on_yet_are_not_given_twice(tmp_path: Path) -> None:
    ports = [Redis(tmp_path / str(number)).port for number in range(300)]
    assert len(set(ports)) == len(ports)


def test_nor_are_they_by_another_process(tmp_path: Path) -> None:
    """A RabbitMQ that takes seconds until it listens found another on its port."""
    mine = Redis(tmp_path)
    (tmp_path / "port").write_text(f"{mine.port}")
    ports = [*quiet_ports(3), mine.port]
    program = (
        "import pathlib\n"
        "from deploy.servers import redis, server\n"
        f"print(redis.Redis(pathlib.Path({str(tmp_path)!r})).port)\n"
        f"server.QUIET = {ports}\n"
        "server.quiet_ports(1)\n"
    )
    other = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert int(other.stdout) not in ports, "another was to start where an earlier one was"
    assert "no free ports" in other.stderr


def test_of_a_process_that_has_ended_they_are_free_again() -> None:
    program = "from deploy.servers import server; print(server.quiet_ports(1)[0])"
    first = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    again = f"from deploy.servers import server; server.QUIET = [{int(first.stdout)}]; server.quiet_ports(1)"
    second = subprocess.run([sys.executable, "-c", again], capture_output=True, text=True, timeout=60)
    assert second.returncode == 0, second.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc for children")
def test_of_a_server_that_did_not_start_nothing_is_left(tmp_path: Path) -> None:
    """Its ``epmd`` ran on, and whichever test came next was blamed."""
    servers.need(RabbitMq)
    server, before = RabbitMq(tmp_path), _children()
    with socket.create_server(("127.0.0.1", server.port)), pytest.raises(ServerError, match="eaddrinuse"):
        server.start()
    assert _children() == before
    server.start()
    server.stop()
    assert _children() == before


@pytest.mark.parametrize("kind", [Redis, RabbitMq])
def test_a_directory_has_one_server_at_a_time(tmp_path: Path, kind: type[Server]) -> None:
    """Two RabbitMQ nodes of one name would write the same files."""
    servers.need(kind)
    first, second = kind(tmp_path), kind(tmp_path)
    first.start()
    try:
        assert first.process
        with pytest.raises(ServerError, match=rf"process {first.process.pid} .*{tmp_path}"):
            second.start()
        assert first.answers()
        first.kill()
        second.start()
        second.stop()
    finally:
        first.stop()
        second.stop()


def test_a_cluster_can_be_made_where_one_was(tmp_path: Path) -> None:
    servers.need(Redis)
    for _ in range(2):
        cluster = RedisCluster(tmp_path)
        try:
            cluster.start()
            assert b"cluster_size:3" in cluster.nodes[0].ask("CLUSTER", "INFO")
        finally:
            cluster.stop()


def _children() -> set[str]:
    """Ours, by process id; also those that have ended and nobody has asked after."""
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has just gone
            pid, _, rest = stat.read_text().partition(" ")
            if rest.rpartition(")")[2].split()[1] == str(os.getpid()):
                found.add(pid)
    return found


async def _publish(url: str, body: bytes) -> None:
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        await _declare(channel)
        message = aio_pika.Message(body, delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
        await channel.default_exchange.publish(message, "kept")


async def _kept(url: str) -> list[bytes]:
    """What lies there; it is given back."""
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        queue = await _declare(channel)
        bodies = []
        while (message := await queue.get(fail=False)) is not None:
            bodies.append(message.body)
        return bodies


async def _declare(channel: aio_pika.abc.AbstractChannel) -> aio_pika.abc.AbstractQueue:
    return await channel.declare_queue("kept", durable=True, arguments={"x-queue-type": "quorum"})


async def _rows_with_one_more(url: str) -> int:
    engine = create_async_engine(url)
    async with engine.begin() as connection:
        await connection.execute(text("CREATE TABLE IF NOT EXISTS kept (words TEXT)"))
        await connection.execute(text("INSERT INTO kept VALUES ('a row')"))
        count: int = (await connection.execute(text("SELECT COUNT(*) FROM kept"))).scalar_one()
    await engine.dispose()
    return count
