"""Connections to RabbitMQ that end at a bad moment: what consumes and what publishes comes back."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import aiormq
import pytest
from structlog.testing import capture_logs
from tests.ports.bus_suite import Consumer, ids, messages, until, until_dead, until_published
from tests.ports.rabbitmq_installation import RabbitMqInstallation
from tests.support import servers
from tests.support.closing_proxy import ClosingProxy, End
from yarl import URL

from yuanlian.kit.clock import SystemClock
from yuanlian.kit.errors import ConflictError
from yuanlian.kit.messaging.bus import BusUnavailableError, Subscription
from yuanlian.kit.messaging.message import Message
from yuanlian.kit.messaging.repository import encode

pytestmark = pytest.mark.servers

SET_UP_FRAMES = 24
"""At least as many as the broker says until one queue is consumed: three of the handshake, five of
the exchanges, eleven of the queue with its retries, dead letters and bindings, three of consuming."""


@pytest.fixture
def installation(tmp_path: Path) -> RabbitMqInstallation:
    return RabbitMqInstallation(servers.rabbitmq(), tmp_path)


def play(installation: RabbitMqInstallation, scenario: Callable[[], Awaitable[None]]) -> None:
    async def run() -> None:
        try:
            await asyncio.wait_for(scenario(), 90)
        finally:
            await installation.close()

    asyncio.run(run())


@pytest.mark.parametrize("end", ["told", "ended", "reset"])
def test_a_connection_that_ends_at_any_frame_of_its_set_up_is_made_again(
    installation: RabbitMqInstallation, end: End
) -> None:
    """The consumer's and the publisher's."""

    async def end_at(frames: Sequence[int], queue: str) -> None:
        broker = URL(installation.server.url)
        proxy = ClosingProxy(broker.port or 0)
        bus = installation.bus(url=str(broker.with_port(await proxy.start())))
        consumer = Consumer()
        bus.subscribe(Subscription(queue, (queue,), consumer))
        await bus.start()
        for number in frames:
            proxy.ends = deque([(number, end)] * 2)
            proxy.cut()
            (sent,) = messages(1, queue)
            await until_published(bus, sent)
            await until(lambda sent=sent: sent.id in consumer.seen, 30)  # type: ignore[misc]  # mypy cannot infer a lambda with a default
        await bus.stop()
        await proxy.close()

    async def scenario() -> None:
        queues = {f"set.up.{first}": range(first, SET_UP_FRAMES + 1, 6) for first in range(1, 7)}
        await asyncio.gather(*(end_at(frames, queue) for queue, frames in queues.items()))

    play(installation, scenario)


def test_a_batch_at_hand_when_the_connection_has_ended_its_side_comes_again(
    installation: RabbitMqInstallation,
) -> None:
    """As it does for a moment when the broker has said that it closes the connection."""
    begun, seen = asyncio.Event(), list[str]()
    first, second = messages(2)

    async def scenario() -> None:
        async def handler(batch: Sequence[Message]) -> None:
            if not begun.is_set():
                begun.set()
                installation.half_close(bus)
            seen.extend(ids(batch))

        bus = installation.bus()
        bus.subscribe(Subscription("q", ("thing.happened",), handler))
        await bus.start()
        await bus.publish([first])
        await until(lambda: seen == [first.id, first.id])
        await bus.publish([second])
        await until(lambda: seen[-1] == second.id)
        await bus.stop()

    play(installation, scenario)


def test_publishing_on_a_connection_that_has_ended_its_side_fails_and_the_next_succeeds(
    installation: RabbitMqInstallation,
) -> None:
    async def scenario() -> None:
        bus = installation.bus()
        bus.subscribe(Subscription("q", ("thing.happened",), consumer := Consumer()))
        await bus.start()
        first, second = messages(2)
        await bus.publish([first])
        installation.half_close_publisher(bus)
        with pytest.raises(BusUnavailableError):
            await bus.publish([second])
        await bus.publish([second])
        await until(lambda: consumer.seen == [first.id, second.id])
        await bus.stop()

    play(installation, scenario)


def test_of_a_batch_whose_failures_come_again_the_others_count_once(
    installation: RabbitMqInstallation,
) -> None:
    async def scenario() -> None:
        sent, calls, closed = messages(10), list[list[str]](), asyncio.Event()

        async def handler(batch: Sequence[Message]) -> None:
            calls.append(ids(batch))
            if sent[4].id in calls[-1]:
                if len(batch) == 1 and not closed.is_set():
                    closed.set()
                    installation.half_close_publisher(bus)
                raise ConflictError

        bus = installation.bus()
        bus.subscribe(Subscription("q", ("thing.happened",), handler))
        await bus.publish(sent)
        await bus.start()
        tally = bus.tallies()["q"]
        await until(lambda: (tally.done, tally.dead) == (9, 1))
        assert calls.count([sent[4].id]) >= 2, "it came again"
        (dead,) = await until_dead(installation, bus, 1)
        assert dead.message_id == sent[4].id
        assert (tally.done, tally.retried, tally.dead) == (9, 0, 1)
        await bus.stop()

    play(installation, scenario)


def test_what_nobody_expected_is_logged_and_holds_up_neither_the_queue_nor_its_batch(
    installation: RabbitMqInstallation,
) -> None:
    """Here a clock that fails when a message is to be buried: with its batch, alone, and once more."""

    class Clock(SystemClock):
        failures = 3

        def now_ms(self) -> int:
            if self.failures:
                self.failures -= 1
                raise ZeroDivisionError
            return super().now_ms()

    async def scenario() -> None:
        sent = messages(5)
        poison, consumer = sent[2], Consumer()
        consumer.fail_with[poison.id] = [ConflictError() for _ in range(10)]
        bus = installation.bus(clock=Clock())
        bus.subscribe(Subscription("q", ("thing.happened",), consumer))
        await bus.start()
        link = bus._link
        with capture_logs() as logs:
            await bus.publish(sent)
            (dead,) = await until_dead(installation, bus, 1)
        await until(lambda: {*ids(sent)} - {*consumer.seen} == {poison.id})
        assert dead.message_id == poison.id
        assert bus._link is link, "its connection serves other queues, too"
        assert {log["log_level"] for log in logs if "settled" in log["event"]} == {"error"}
        await bus.stop()

    play(installation, scenario)


def test_what_cannot_be_read_for_whatever_reason_is_buried(installation: RabbitMqInstallation) -> None:
    async def scenario() -> None:
        consumer = Consumer()
        bus = installation.bus()
        bus.subscribe(Subscription("q", ("thing.happened",), consumer))
        await bus.start()
        (good,) = messages(1)
        nested = encode(good).replace('{"n":0}', '{"n":' * 20_000 + "0" + "}" * 20_000)
        connection = await aiormq.connect(installation.server.url)
        channel = await connection.channel()
        await channel.basic_publish(nested.encode(), routing_key="q")
        await connection.close()
        await bus.publish([good])
        (dead,) = await until_dead(installation, bus, 1)
        assert "RecursionError" in dead.reason
        await until(lambda: consumer.seen == [good.id])
        await bus.stop()

    play(installation, scenario)
