"""Two relays on one outbox in processes of their own, over MariaDB and RabbitMQ; the one that publishes is
killed under a stream of messages."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.ports.bus_suite import messages
from tests.ports.rabbitmq_installation import RabbitMqInstallation
from tests.support import servers
from tests.support.databases import open_database, url_of, using

from yuanlian.kit.database.schema import Base
from yuanlian.kit.messaging import inbox, lease_repository, outbox
from yuanlian.kit.messaging.bus import Subscription
from yuanlian.kit.messaging.message import Message

pytestmark = pytest.mark.servers


def test_two_relays_of_which_the_one_that_publishes_is_killed(tmp_path: Path) -> None:
    async def scenario() -> None:
        path = tmp_path / "outbox.db"
        database = open_database(path)
        await asyncio.to_thread(database.migrate, Base.metadata.create_all)
        installation = RabbitMqInstallation(servers.rabbitmq(), tmp_path)
        effects: Counter[str] = Counter()
        deliveries = 0

        async def handle(batch: Sequence[Message]) -> None:
            nonlocal deliveries
            deliveries += len(batch)
            fresh_of: list[str] = []
            await inbox.once(
                database, "consumer", batch, lambda _, fresh: _replace(fresh_of, [m.id for m in fresh])
            )
            effects.update(fresh_of)

        bus = installation.bus()
        bus.subscribe(Subscription("q", ("thing.happened",), handle))
        await bus.start()
        relays = {
            name: subprocess.Popen([sys.executable, "-c", RELAY, url_of(path), installation.server.url, name])
            for name in ("first", "second")
        }
        committed: set[str] = set()
        try:
            async with asyncio.timeout(30):
                while (lease := await database.read(lease_repository.select_lease)) is None:
                    await asyncio.sleep(0.05)
            for number in range(60):
                new = messages(10)
                await database.write(lambda session, new=new: outbox.add(session, new))  # type: ignore[misc]  # mypy cannot infer a lambda with a default
                committed |= {message.id for message in new}
                if number == 30:
                    relays[lease.owner].send_signal(signal.SIGKILL)
                await asyncio.sleep(0.02)
            async with asyncio.timeout(60):
                while set(effects) != committed:
                    await asyncio.sleep(0.05)
            taken_over = await database.read(lease_repository.select_lease)
        finally:
            for relay in relays.values():
                relay.kill()
                relay.wait()
        await bus.stop()
        assert set(effects.values()) == {1}
        assert taken_over is not None
        assert taken_over.owner != lease.owner
        # The killed one may have published what it could not delete any more; nobody publishes all twice.
        assert deliveries < 2 * len(committed)
        await installation.close()
        await database.close()

    with using("mariadb"):
        asyncio.run(scenario())


def _replace(held: list[str], ids: list[str]) -> None:
    """A transaction that is run again counts once."""
    held[:] = ids


RELAY = """
import asyncio, sys
from yuanlian.kit.clock import SystemClock
from yuanlian.kit.database.url import database_from_url
from yuanlian.kit.messaging.lease import RelayLease
from yuanlian.kit.messaging.rabbitmq import RabbitMqBus
from yuanlian.kit.messaging.relay import Relay

async def main():
    database = database_from_url(sys.argv[1])
    bus = RabbitMqBus(sys.argv[2], SystemClock(), bindings={"q": ("thing.happened",)}, second_ms=10)
    lease = RelayLease(database, ttl_s=1, owner=sys.argv[3])
    relay = Relay(database, bus, SystemClock(), poll=0.05, lease=lease)
    await relay.start()
    await asyncio.sleep(120)

asyncio.run(main())
"""
