"""The bus suite against RabbitMQ, and what is particular to it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import aiormq
import pytest
from aiormq.abc import AbstractChannel
from pamqp.commands import Basic
from structlog.testing import capture_logs
from tests.ports.bus_suite import (
    BusSuite,
    Consumer,
    Installation,
    consuming,
    dead_of,
    ids,
    messages,
    until,
    until_dead,
)
from tests.ports.rabbitmq_installation import SECOND_MS, RabbitMqInstallation
from tests.support import servers

from yuanlian.kit.errors import ConflictError, DependencyAwayError, ServiceUnavailableError
from yuanlian.kit.messaging import outbox, rabbitmq_queue
from yuanlian.kit.messaging.bus import (
    BusError,
    BusUnavailableError,
    MessageRefusedError,
    Subscription,
)
from yuanlian.kit.messaging.message import Message
from yuanlian.kit.messaging.rabbitmq import RabbitMqBus
from yuanlian.kit.messaging.rabbitmq_parcels import BODY_MAX
from yuanlian.kit.messaging.rabbitmq_topology import RETURNS

pytestmark = pytest.mark.servers


class Gate:
    """A handler that stands still until it is opened."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.open = asyncio.Event()
        self.seen: list[str] = []

    async def __call__(self, batch: Sequence[Message]) -> None:
        self.begun.set()
        await self.open.wait()
        self.seen.extend(ids(batch))


class TestRabbitMqBus(BusSuite):
    @pytest.fixture
    def installation(self, tmp_path: Path) -> RabbitMqInstallation:
        return RabbitMqInstallation(servers.rabbitmq(), tmp_path)

    def test_a_transient_error_is_retried_after_1_5_30_and_300_seconds_then_dies(
        self, installation: Installation
    ) -> None:
        """By the broker's clock, with seconds that are shorter."""

        async def scenario() -> None:
            called_at: list[float] = []
            (message,) = messages(1, retry=5)
            left: list[int] = []

            async def handler(batch: Sequence[Message]) -> None:
                called_at.append(time.monotonic())
                left.append(batch[0].retry)
                raise ServiceUnavailableError

            bus = consuming(installation, handler)
            await bus.start()
            await bus.publish([message])
            (dead,) = await until_dead(installation, bus, 1)
            await bus.stop()
            waits = [later - earlier for earlier, later in pairwise(called_at)]
            assert len(waits) == 5
            for wait, seconds in zip(waits, (1, 5, 30, 300, 300), strict=True):
                assert wait * 1000 >= seconds * SECOND_MS - 2, "too early"
            assert left == [5, 4, 3, 2, 1, 0]
            assert (dead.attempts, dead.message_id) == (6, message.id)
            assert "ServiceUnavailableError" in dead.reason

        self.play(installation, scenario)

    def test_a_busy_consumer_waits_for_a_full_batch_and_no_longer(
        self, installation: RabbitMqInstallation, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(rabbitmq_queue, "GATHER", 3600)

        async def scenario() -> None:
            consumer = Consumer()
            bus = consuming(installation, consumer, batch=4)
            await bus.start()
            await bus.publish(messages(1))
            await until(lambda: len(consumer.seen) == 1)
            await bus.publish(messages(3))
            await bus.publish(messages(1))
            await until(lambda: len(consumer.seen) == 5)
            assert [len(call) for call in consumer.calls] == [1, 4]
            await bus.publish(messages(3))
            await bus.stop()  # does not wait for the fourth

        self.play(installation, scenario)

    def test_what_a_stop_leaves_unhandled_is_not_acknowledged_with_what_follows(
        self, installation: RabbitMqInstallation
    ) -> None:
        """Of a batch that is taken apart: an acknowledgement is of all that came before, too."""
        plug, first, second = messages(3)

        async def scenario() -> None:
            arrived, stopping = asyncio.Event(), asyncio.Event()
            alone: list[str] = []

            async def handler(batch: Sequence[Message]) -> None:
                if batch[0].id == plug.id:
                    await arrived.wait()
                elif len(batch) > 1:
                    raise asyncio.CancelledError  # of something that it awaited
                else:
                    alone.append(batch[0].id)
                    if batch[0].id == first.id:
                        stopping.set()
                        raise DependencyAwayError

            bus = consuming(installation, handler)
            await bus.start()
            await bus.publish([plug])
            await bus.publish([first, second])
            await asyncio.sleep(0.2)
            arrived.set()
            await stopping.wait()
            await bus.stop()
            assert set(alone) == {first.id}
            again = Consumer()
            bus = consuming(installation, again)
            await bus.start()
            await until(lambda: len(again.seen) == 2)
            await bus.stop()
            assert again.seen == [first.id, second.id]

        self.play(installation, scenario)

    def test_steps_of_backoff_do_not_wait_for_each_other(self, installation: RabbitMqInstallation) -> None:
        async def scenario() -> None:
            consumer = Consumer()
            slow, quick = messages(2, retry=5)
            consumer.fail_with[slow.id] = [OSError() for _ in range(4)]
            consumer.fail_with[quick.id] = [OSError()]
            bus = consuming(installation, consumer)
            await bus.start()
            await bus.publish([slow])
            await until(lambda: len(consumer.calls) == 4)  # the next one comes after three seconds
            await bus.publish([quick])
            await until(lambda: len(consumer.seen) == 2)
            await bus.stop()
            assert consumer.seen == [quick.id, slow.id]

        self.play(installation, scenario)

    def test_a_backlog_of_ten_thousand_keeps_its_order(self, installation: RabbitMqInstallation) -> None:
        async def scenario() -> None:
            consumer = Consumer()
            sent = messages(10_000)
            sender = consuming(installation, consumer)
            for start in range(0, len(sent), 1000):
                await sender.publish(sent[start : start + 1000])
            bus = consuming(installation, consumer)
            await bus.start()
            await until(lambda: len(consumer.seen) >= len(sent), 30)
            await bus.stop()
            assert consumer.seen == ids(sent)
            assert await installation.counts() == {}

        self.play(installation, scenario)

    def test_stop_gives_back_in_order_what_was_not_at_hand(self, installation: RabbitMqInstallation) -> None:
        async def scenario() -> None:
            gate, consumer = Gate(), Consumer()
            bus = consuming(installation, gate, batch=2)
            await bus.start()
            await bus.publish(sent := messages(50))
            await gate.begun.wait()
            stopping = asyncio.create_task(bus.stop())
            await asyncio.sleep(0.05)
            gate.open.set()
            await stopping
            assert len(gate.seen) <= 2
            again = consuming(installation, consumer)
            await again.start()
            await until(lambda: len(gate.seen) + len(consumer.seen) >= 50)
            await again.stop()
            assert gate.seen + consumer.seen == ids(sent)

        self.play(installation, scenario)

    def test_stop_does_not_connect_again(self, installation: RabbitMqInstallation) -> None:
        """It did: the connection that it closed looked lost."""

        async def scenario() -> None:
            bus = consuming(installation, Consumer())
            with capture_logs() as logged:
                await bus.start()
                await asyncio.sleep(0.05)  # watching its connection
                await bus.stop()
            assert [line["event"] for line in logged] == []

        self.play(installation, scenario)

    def test_a_message_of_many_frames_arrives_whole(self, installation: RabbitMqInstallation) -> None:
        async def scenario() -> None:
            got: list[Message] = []
            bus = consuming(installation, lambda batch: _keep(got, batch))
            await bus.start()
            large = Message.new("thing.happened", "tenant_a", "园" * 4_000_000)
            await bus.publish([*messages(1), large, *messages(1)])
            await until(lambda: len(got) == 3)
            await bus.stop()
            assert got[1] == large

        self.play(installation, scenario)

    @pytest.mark.parametrize(
        "refused",
        [
            Message("msg_large", "thing.happened", 0, "tenant_a", "x" * BODY_MAX),
            Message("msg_" + "x" * 300, "thing.happened", 0, "tenant_a", None),
            Message("msg_type", "x" * 256, 0, "tenant_a", None),
        ],
        ids=["too large", "id too long", "type too long"],
    )
    def test_what_no_broker_would_take_is_refused_and_buried_by_the_relay(
        self, installation: RabbitMqInstallation, refused: Message
    ) -> None:
        async def scenario() -> None:
            consumer = Consumer()
            bus = consuming(installation, consumer)
            await bus.start()
            with pytest.raises(MessageRefusedError):
                await bus.publish([*messages(1), refused])
            assert await installation.counts() == {}
            relay = installation.relay(bus)
            await relay.start()
            before, after = messages(1), messages(1)
            await installation.database.write(lambda s: outbox.add(s, [*before, refused, *after]))
            await until(lambda: consumer.seen == ids([*before, *after]))
            await relay.stop()
            await bus.stop()
            assert await installation.in_outbox() == 0
            (letter,) = await installation.outbox_dead_letters()
            assert letter.message_id == refused.id

        self.play(installation, scenario)

    @pytest.mark.parametrize("body", [b"", b"{", b'{"id":1}', b"\xff\xfe", b"null"])
    def test_what_is_no_message_dies_and_holds_no_other_back(
        self, installation: RabbitMqInstallation, body: bytes
    ) -> None:
        async def scenario() -> None:
            consumer = Consumer()
            bus = consuming(installation, consumer)
            await bus.publish(sent := messages(2))
            async with raw(installation) as channel:
                await channel.basic_publish(body, routing_key="q")
            await bus.publish(more := messages(1))
            await bus.start()
            await until(lambda: consumer.seen == ids([*sent, *more]))
            (dead,) = await until_dead(installation, bus, 1)
            tally = bus.tallies()["q"]
            await until(lambda: (tally.done, tally.dead) == (3, 1))
            assert dead.body == body.decode(errors="replace")
            assert await installation.dead_letters(bus).replay([dead.id]) == 0
            await bus.stop()
            assert [letter.id for letter in await dead_of(installation, bus, "q")] == [dead.id]

        self.play(installation, scenario)

    def test_what_a_message_looks_like_to_other_clients(self, installation: RabbitMqInstallation) -> None:
        async def scenario() -> None:
            bus = consuming(installation, Consumer())
            sent = Message(
                "msg_1", "thing.happened", 1_772_409_600_123, "租户", None, 3, 0, "req_1", "user_1"
            )
            await bus.publish([sent])
            async with raw(installation) as channel:
                got = await channel.basic_get("q", no_ack=True)
            properties = got.header.properties
            assert isinstance(got.delivery, Basic.GetOk)
            assert (got.delivery.exchange, got.delivery.routing_key) == (
                "kindergarten.topic",
                "thing.happened",
            )
            own = {k: v for k, v in (properties.headers or {}).items() if not k.startswith("x-delivery")}
            assert own == {"tenantId": "租户", "userId": "user_1", "requestId": "req_1"}
            assert (properties.message_id, properties.message_type) == ("msg_1", "thing.happened")
            assert (properties.content_type, properties.delivery_mode) == ("application/json", 2)
            assert properties.timestamp is not None
            assert properties.timestamp.timestamp() == 1_772_409_600
            assert b'"tenantId":"\xe7\xa7\x9f\xe6\x88\xb7"' in got.body

        self.play(installation, scenario)

    def test_a_dead_letter_says_why_in_its_headers(self, installation: RabbitMqInstallation) -> None:
        async def scenario() -> None:
            consumer = Consumer()
            (message,) = messages(1)
            consumer.fail_with[message.id] = [ConflictError()]
            bus = consuming(installation, consumer)
            await bus.start()
            await bus.publish([message])
            await until_dead(installation, bus, 1)
            await bus.stop()
            async with raw(installation) as channel:
                got = await channel.basic_get("q.dead")
            headers = got.header.properties.headers or {}
            assert headers["tenantId"] == "tenant_a"
            assert str(headers["x-reason"]).startswith("ConflictError")
            assert headers["x-attempts"] == "1"

        self.play(installation, scenario)

    def test_dead_letters_are_listed_in_pages_discarded_and_replayed_by_queue(
        self, installation: RabbitMqInstallation
    ) -> None:
        async def scenario() -> None:
            consumer = Consumer()
            sent = messages(5, retry=0)
            for message in sent:
                consumer.fail_with[message.id] = [ConflictError(), ConflictError()]
            bus = consuming(installation, consumer, batch=1)
            await bus.start()
            await bus.publish(sent)
            await until_dead(installation, bus, 5)
            letters = installation.dead_letters(bus)
            first, cursor = await letters.list(3)
            second, end = await letters.list(3, cursor)
            assert (len(first), len(second), end) == (3, 2, None)
            numbers = [letter.id for letter in (*first, *second)]
            assert numbers == sorted(numbers, reverse=True)
            assert await letters.discard([second[-1].id, 12345]) == 1
            gone = second[-1].message_id
            consumer.fail_with.clear()
            assert await letters.replay_queue("q") == 4
            await until(lambda: len(consumer.seen) == 4)
            await bus.stop()
            assert sorted(consumer.seen) == sorted(set(ids(sent)) - {gone})
            assert await letters.list() == ([], None)
            assert await letters.list(queue="nothing.queue") == ([], None)

        self.play(installation, scenario)

    def test_what_is_handed_out_again_and_again_without_an_answer_is_buried(
        self, installation: RabbitMqInstallation
    ) -> None:
        """As a message does that ends every process which touches it."""

        async def scenario() -> None:
            bus = consuming(installation, Consumer())
            (message,) = messages(1)
            await bus.publish([message])
            async with raw(installation) as channel:
                for _ in range(RETURNS + 1):
                    got = await channel.basic_get("q")
                    assert got.delivery_tag is not None
                    await channel.basic_nack(got.delivery_tag, requeue=True)
            (dead,) = await until_dead(installation, bus, 1)
            assert (dead.message_id, dead.attempts) == (message.id, RETURNS)
            assert "never settled" in dead.reason
            assert await installation.dead_letters(bus).replay([dead.id]) == 1
            assert await installation.counts() == {"q": 1}

        self.play(installation, scenario)

    def test_a_queue_that_is_there_with_other_arguments_is_named(
        self, installation: RabbitMqInstallation
    ) -> None:
        async def scenario() -> None:
            async with raw(installation) as channel:
                await channel.queue_declare("q.retry.5", durable=True)
            bus = consuming(installation, Consumer())
            with pytest.raises(BusError, match=r"queue q\.retry\.5 is there with other arguments.*x-"):
                await bus.start()
            with pytest.raises(BusError, match=r"queue q\.retry\.5"):
                await bus.publish(messages(1))

        self.play(installation, scenario)

    def test_queues_that_others_consume_are_there_before_them(
        self, installation: RabbitMqInstallation
    ) -> None:
        async def scenario() -> None:
            sender = installation.bus(bindings={"theirs": ("thing.happened",)})
            await sender.publish(sent := messages(2))
            consumer = Consumer()
            bus = consuming(installation, consumer, "theirs")
            await bus.start()
            await until(lambda: consumer.seen == ids(sent))
            await bus.stop()

        self.play(installation, scenario)

    def test_a_queue_has_one_handler(self, installation: RabbitMqInstallation) -> None:
        async def scenario() -> None:
            bus = consuming(installation, Consumer())
            with pytest.raises(ValueError, match="has its handler already"):
                bus.subscribe(Subscription("q", ("other.happened",), Consumer()))

        self.play(installation, scenario)

    @pytest.mark.parametrize(
        ("url", "says"),
        [
            ("amqp://yuanlian:secret-word@127.0.0.1:{port}/", "refuses the user or the password"),
            ("amqp://nobody:secret-word@127.0.0.1:{port}/", "refuses the user or the password"),
            ("amqp://yuanlian:{password}@127.0.0.1:{port}/nowhere", "does not open /nowhere"),
            ("amqp://yuanlian:secret-word@127.0.0.1:1/", "cannot be used"),
            ("amqp://yuanlian:secret-word@no.such.host.invalid/", "cannot be used"),
            ("http://yuanlian:secret-word@127.0.0.1/", "not an amqp"),
            ("amqp:///", "names a host"),
        ],
    )
    def test_a_broker_that_cannot_be_used_is_named_without_the_password(
        self, installation: RabbitMqInstallation, url: str, says: str
    ) -> None:
        async def scenario() -> None:
            password = installation.server.url.split(":")[2].split("@")[0]
            address = url.format(port=installation.server.port, password=password)
            with pytest.raises(BusError, match=says) as caught:
                await RabbitMqBus(address, installation.clock).start()
            said = repr(caught.value) + repr(caught.value.__cause__)
            assert "secret-word" not in said
            assert password not in said

        self.play(installation, scenario)

    def test_who_may_not_declare_is_told_what_he_lacks(self, installation: RabbitMqInstallation) -> None:
        async def scenario() -> None:
            control = installation.server.control
            await asyncio.to_thread(control, "add_user", "guest_user", "secret-word")
            await asyncio.to_thread(control, "set_permissions", "guest_user", "", "", "")
            url = f"amqp://guest_user:secret-word@127.0.0.1:{installation.server.port}/"
            try:
                with pytest.raises(BusError, match="needs the configure, write and read permissions"):
                    await RabbitMqBus(url, installation.clock).ping()
            finally:
                await asyncio.to_thread(control, "delete_user", "guest_user")

        self.play(installation, scenario)

    def test_publishing_to_a_queue_that_was_deleted_fails_and_makes_it_anew(
        self, installation: RabbitMqInstallation
    ) -> None:
        async def scenario() -> None:
            consumer = Consumer()
            sender = consuming(installation, consumer)
            await sender.publish(messages(1))
            async with raw(installation) as channel:
                await channel.queue_delete("q")
            with pytest.raises(BusError, match="no queue takes"):
                await sender.publish(sent := messages(2))
            await sender.publish(sent)
            bus = consuming(installation, consumer)
            await bus.start()
            await until(lambda: consumer.seen == ids(sent))
            await bus.stop()

        self.play(installation, scenario)

    def test_a_consumer_whose_queue_was_deleted_makes_it_anew(
        self, installation: RabbitMqInstallation
    ) -> None:
        async def scenario() -> None:
            consumer = Consumer()
            bus = installation.bus(confirm_s=1)
            bus.subscribe(Subscription("q", ("thing.happened",), consumer))
            await bus.start()
            async with raw(installation) as channel:
                await channel.queue_delete("q")
            # RabbitMQ 3.10 loses what goes to a queue that is made anew in the moment of its deletion.
            await asyncio.sleep(0.5)
            await bus.publish(sent := messages(1))
            await until(lambda: consumer.seen == ids(sent))
            await bus.stop()

        self.play(installation, scenario)

    def test_a_consumer_that_the_broker_has_forgotten_comes_back(
        self, installation: RabbitMqInstallation
    ) -> None:
        async def scenario() -> None:
            consumer = Consumer()
            bus = installation.bus(check_s=0.2)
            bus.subscribe(Subscription("q", ("thing.happened",), consumer))
            await bus.start()
            await installation.forget_consumer(bus, "q")
            await bus.publish(sent := messages(1))
            await until(lambda: consumer.seen == ids(sent))
            await bus.stop()

        self.play(installation, scenario)

    def test_a_broker_that_is_silent_fails_the_publisher_and_recovers(self, tmp_path: Path) -> None:
        server = servers.own_rabbitmq(tmp_path)
        installation = RabbitMqInstallation(server, tmp_path)

        async def scenario() -> None:
            bus = installation.bus(confirm_s=0.3)
            consumer = Consumer()
            bus.subscribe(Subscription("q", ("thing.happened",), consumer))
            await bus.start()
            await bus.publish(first := messages(1))
            server.pause()
            await asyncio.sleep(0.1)  # a signal is not obeyed by every thread in the same moment
            try:
                with pytest.raises(BusUnavailableError, match="does not answer"):
                    await bus.ping()
                with pytest.raises(BusUnavailableError, match="did not confirm"):
                    await bus.publish(second := messages(1))
            finally:
                server.resume()
            await bus.publish(second)
            await bus.ping()
            await until(lambda: set(consumer.seen) == set(ids([*first, *second])))
            await bus.stop()

        try:
            self.play(installation, scenario)
        finally:
            server.stop()


async def _keep(got: list[Message], batch: Sequence[Message]) -> None:
    got.extend(batch)


class raw:  # noqa: N801 - reads like a function
    """A channel of another client."""

    def __init__(self, installation: RabbitMqInstallation) -> None:
        self._url = installation.server.url

    async def __aenter__(self) -> AbstractChannel:
        self._connection: Any = await aiormq.connect(self._url)
        channel: AbstractChannel = await self._connection.channel()
        return channel

    async def __aexit__(self, *_: object) -> None:
        await self._connection.close()
