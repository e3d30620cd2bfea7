"""A broker that goes away under a stream of messages. DESIGN §6 invariant 3.

In the end every message whose row was committed has had its effect exactly once, the outbox is empty, and
so is every queue.
"""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path

import pytest
from tests.ports.bus_suite import Consumer, messages, until, until_published
from tests.ports.rabbitmq_installation import RabbitMqInstallation
from tests.support import servers
from tests.support.seed import SEED

from deploy.servers.rabbitmq import RabbitMq
from yuanlian.kit.errors import ConflictError
from yuanlian.kit.messaging import inbox, outbox
from yuanlian.kit.messaging.bus import BusError, Subscription
from yuanlian.kit.messaging.message import Message

pytestmark = pytest.mark.servers
PATIENCE_S = 60.0
"""Without anything that moves: how long all of it takes is the machine's business."""
MOST_WAITING = 2000
"""Messages that have not had their effect; while there are as many, no further ones are committed."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RabbitMq]:
    server = servers.own_rabbitmq(tmp_path)
    yield server
    server.stop()


class Corridor:
    """Outbox, relay, bus and two consumers, whose effects are counted in the database."""

    def __init__(self, server: RabbitMq, folder: Path) -> None:
        self.installation = RabbitMqInstallation(server, folder)
        self.chance = random.Random(SEED)
        self.committed: list[str] = []
        self.effects: dict[str, Counter[str]] = {"first": Counter(), "second": Counter()}
        self.poison: set[str] = set()

    def subscribe_all(self) -> None:
        self.bus = self.installation.bus(confirm_s=5, check_s=5)
        for name in self.effects:
            self.bus.subscribe(Subscription(name, ("thing.happened",), self._consumer(name)))

    async def feed(self, stop: asyncio.Event) -> None:
        """A transaction of a few messages, again and again."""
        while not stop.is_set():
            if self._waiting() > MOST_WAITING:
                await asyncio.sleep(0.01)
                continue
            new = messages(self.chance.randint(1, 20))
            if not self.poison or self.chance.random() < 0.002:
                self.poison.add(new[0].id)
            await self.installation.database.write(lambda session, new=new: outbox.add(session, new))  # type: ignore[misc]  # mypy cannot infer a lambda with a default
            self.committed += [message.id for message in new]
            await asyncio.sleep(self.chance.uniform(0, 0.01))

    async def run(self, fault: Callable[[], Awaitable[None]]) -> None:
        self.subscribe_all()
        relay = self.installation.relay(self.bus)
        await self.bus.start()
        await relay.start()
        stop = asyncio.Event()
        feeding = asyncio.create_task(self.feed(stop))
        await asyncio.sleep(0.5)
        await fault()
        await asyncio.sleep(1)
        stop.set()
        await feeding
        await self._settled()
        await relay.stop()
        await self.bus.stop()
        expected = set(self.committed) - self.poison
        for name, effects in self.effects.items():
            assert set(effects) == expected, (name, SEED)
            assert set(effects.values()) == {1}, (name, SEED)
        dead, _ = await self.installation.dead_letters(self.bus).list(10_000)
        assert {letter.message_id for letter in dead} == self.poison
        left = {queue for queue in await self.installation.counts() if not queue.endswith(".dead")}
        assert left == set()

    async def _settled(self) -> None:
        loop = asyncio.get_running_loop()
        left, since = await self._left(), loop.time()
        while any(left):
            if loop.time() - since > PATIENCE_S:
                outbox, missing, _ = left
                pytest.fail(
                    f"seed {SEED}: {outbox} in the outbox, {missing} missing, "
                    + self.installation.server.control("list_queues", "name", "messages", "consumers")
                )
            await asyncio.sleep(0.05)
            before, left = left, await self._left()
            if left != before:
                since = loop.time()

    async def _left(self) -> tuple[int, dict[str, int], bool]:
        installation = self.installation
        return await installation.in_outbox(), self._missing(), await installation.unsettled()

    def _waiting(self) -> int:
        return max(self._missing().values(), default=0)

    def _missing(self) -> dict[str, int]:
        due = len(self.committed) - len(self.poison)
        return {name: due - len(effects) for name, effects in self.effects.items() if len(effects) < due}

    def _consumer(self, name: str) -> Callable[[Sequence[Message]], Awaitable[None]]:
        async def handle(batch: Sequence[Message]) -> None:
            if any(message.id in self.poison for message in batch):
                raise ConflictError
            await inbox.once(
                self.installation.database,
                name,
                batch,
                lambda _, fresh: self.effects[name].update(message.id for message in fresh),
            )

        return handle


def play(server: RabbitMq, folder: Path, fault: Callable[[Corridor], Awaitable[None]]) -> None:
    async def scenario() -> None:
        corridor = Corridor(server, folder)
        try:
            await corridor.run(lambda: fault(corridor))
        finally:
            await corridor.installation.close()

    asyncio.run(scenario())


def test_the_broker_is_stopped_and_started(server: RabbitMq, tmp_path: Path) -> None:
    async def fault(_: Corridor) -> None:
        await asyncio.to_thread(server.stop)
        await asyncio.sleep(2)
        await asyncio.to_thread(server.start)

    play(server, tmp_path, fault)


def test_the_broker_is_killed_twice(server: RabbitMq, tmp_path: Path) -> None:
    """Not within moments of its start: RabbitMQ 3.10.8 writes down a second later which queues it has, and
    one killed before that may come back with a queue that has no log and no leader."""

    async def fault(corridor: Corridor) -> None:
        for _ in range(2):
            await asyncio.sleep(3 + corridor.chance.random())
            await asyncio.to_thread(server.kill)
            await asyncio.to_thread(server.start)

    play(server, tmp_path, fault)


def test_connections_are_closed_by_force(server: RabbitMq, tmp_path: Path) -> None:
    async def fault(corridor: Corridor) -> None:
        for _ in range(4):
            await asyncio.to_thread(server.close_connections)
            await asyncio.sleep(corridor.chance.uniform(0, 0.5))

    play(server, tmp_path, fault)


def test_the_broker_says_nothing_for_a_while(server: RabbitMq, tmp_path: Path) -> None:
    async def fault(_: Corridor) -> None:
        server.pause()
        await asyncio.sleep(7)  # longer than a confirmation is waited for
        server.resume()

    play(server, tmp_path, fault)


def test_while_nothing_is_consumed_metrics_and_health_say_so(server: RabbitMq, tmp_path: Path) -> None:
    installation = RabbitMqInstallation(server, tmp_path)

    async def scenario() -> None:
        bus = installation.bus()
        bus.subscribe(Subscription("q", ("thing.happened",), consumer := Consumer()))
        await bus.start()
        await bus.ping()
        tally = bus.tallies()["q"]
        await asyncio.to_thread(server.stop)
        await until(lambda: tally.stalled_s > 1)
        await asyncio.to_thread(server.start)
        (sent,) = messages(1)
        await until_published(bus, sent)
        await until(lambda: sent.id in consumer.seen and tally.stalled_s == 0)
        await bus.ping()
        # What publishes has its connection, and still nothing is handed out.
        await asyncio.to_thread(server.control, "set_permissions", "yuanlian", ".*", ".*", "^$")
        installation.half_close(bus)
        await until(lambda: tally.stalled_s > 1)
        with pytest.raises(BusError, match="nothing is consumed of q"):
            await bus.ping()
        await asyncio.to_thread(server.control, "set_permissions", "yuanlian", ".*", ".*", ".*")
        await until(lambda: tally.stalled_s == 0)
        await bus.ping()
        await bus.stop()

    asyncio.run(scenario())


def test_a_batch_at_hand_when_its_connection_is_lost_is_not_acknowledged_on_another(
    server: RabbitMq, tmp_path: Path
) -> None:
    """Delivery tags begin at 1 on every channel: an old one would settle a message nobody has seen."""

    async def scenario() -> None:
        installation = RabbitMqInstallation(server, tmp_path)
        begun, go_on = asyncio.Event(), asyncio.Event()
        calls: list[list[int]] = []

        async def handler(batch: Sequence[Message]) -> None:
            calls.append([message.data["n"] for message in batch])
            begun.set()
            await go_on.wait()
            if len(calls) == 2:
                await asyncio.Event().wait()  # never ends: the process is lost here

        bus = installation.bus()
        bus.subscribe(Subscription("q", ("thing.happened",), handler, batch=2))
        await bus.start()
        await bus.publish(messages(4))
        await begun.wait()
        at_hand = len(calls[0])
        await asyncio.to_thread(server.close_connections)
        await asyncio.sleep(1)  # consuming again
        go_on.set()
        async with asyncio.timeout(10):
            while len(calls) < 2:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)
        assert calls[0] == list(range(at_hand))
        assert calls[1][0] == 0, "the first of them is handed out again"
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(bus.stop(), 0.2)
        await asyncio.sleep(0.2)
        assert await installation.counts() == {"q": 4}
        await installation.close()

    asyncio.run(scenario())


def test_two_processes_share_a_queue_and_one_is_killed(server: RabbitMq, tmp_path: Path) -> None:
    async def scenario() -> None:
        installation = RabbitMqInstallation(server, tmp_path)
        bus = installation.bus(bindings={"shared": ("thing.happened",)})
        await bus.ping()
        consumers = [Consuming(server.url), Consuming(server.url)]
        sent = messages(2000)
        try:
            for consumer in consumers:
                await consumer.ready()
            for start in range(0, 2000, 100):
                await bus.publish(sent[start : start + 100])
                if start == 1000:
                    consumers[0].kill()
                await asyncio.sleep(0.02)
            async with asyncio.timeout(30):
                while {m.id for m in sent} - consumers[0].seen - consumers[1].seen:
                    await asyncio.sleep(0.05)
        finally:
            for consumer in consumers:
                consumer.kill()
        assert consumers[0].seen
        assert consumers[1].seen
        await installation.close()

    asyncio.run(scenario())


class Consuming:
    """A consumer in a process of its own, which says what it has handled."""

    def __init__(self, url: str) -> None:
        self.seen: set[str] = set()
        self._process = subprocess.Popen(
            [sys.executable, "-c", CONSUMER, url], stdout=subprocess.PIPE, text=True
        )
        self._reading = asyncio.create_task(asyncio.to_thread(self._read))
        self._ready = False

    async def ready(self) -> None:
        async with asyncio.timeout(20):
            while not self._ready:
                await asyncio.sleep(0.01)

    def kill(self) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                self._ready = True
                self.seen.update(id_ for id_ in line.split() if id_.startswith("msg_"))


CONSUMER = """
import asyncio, sys
from yuanlian.kit.clock import SystemClock
from yuanlian.kit.messaging.bus import Subscription
from yuanlian.kit.messaging.rabbitmq import RabbitMqBus

async def handle(batch):
    await asyncio.sleep(0.001)
    print(*(message.id for message in batch), flush=True)

async def main():
    bus = RabbitMqBus(sys.argv[1], SystemClock(), second_ms=10)
    bus.subscribe(Subscription("shared", ("thing.happened",), handle, batch=8))
    await bus.start()
    print("ready", flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""
