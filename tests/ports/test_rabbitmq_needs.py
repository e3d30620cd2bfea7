"""What is found out about a RabbitMQ, and that it is as before then."""

from __future__ import annotations

import asyncio
import contextlib
import re
import struct
from collections.abc import AsyncIterator, Iterator

import pytest
from tests.support import servers
from tests.support.accounts import broker_users, in_broker

from deploy.servers.rabbitmq import RabbitMq
from yuanlian.kit.clock import SystemClock
from yuanlian.kit.messaging import rabbitmq_topology as topology
from yuanlian.kit.messaging.bus import BusError, BusUnavailableError
from yuanlian.kit.messaging.rabbitmq import RabbitMqBus

pytestmark = pytest.mark.servers

BINDINGS = {"first.queue": ("thing.happened",), "second.queue": ("thing.happened", "other.happened")}
VHOST = "needs"
ALL = ".*"
_FRAME = struct.Struct(">BHI")
NEITHER_QUEUE = r"kindergarten\..*|amq\.default"


USERS = {
    "all": (ALL, ALL, ALL),
    "declare": ("", ALL, ALL),
    "one_queue": (r"^(?!second\.queue\.retry\.30$).*", ALL, ALL),
    "one_exchange": (r"^(?!kindergarten\.topic).*", ALL, ALL),
    "bind": (ALL, NEITHER_QUEUE, ALL),
    "publish": (ALL, r".*queue.*|amq\.default|.*direct", ALL),
    "retry": (ALL, r".*queue.*|kindergarten.*", ALL),
    "consume": (ALL, ALL, NEITHER_QUEUE),
    "follow": (ALL, ALL, r".*queue.*|.*(topic|fanout)"),
    "nothing": ("", "", ""),
}
LACKING = {
    "declare": ["configure of exchange kindergarten.direct, exchange kindergarten.fanout, "],
    "one_queue": ["configure of queue second.queue.retry.30"],
    "one_exchange": ["configure of exchange kindergarten.topic"],
    "bind": ["write of queue first.queue, queue second.queue"],
    "publish": ["write of exchange kindergarten.topic"],
    "retry": ["write of exchange amq.default"],
    "consume": ["read of queue first.queue, queue second.queue"],
    "follow": ["read of exchange kindergarten.direct"],
    "nothing": ["configure of exchange kindergarten.direct", "write of queue", "read of queue"],
}


@pytest.fixture(scope="module")
def urls() -> Iterator[dict[str, str]]:
    """Of a virtual host in which nothing is yet."""
    server = servers.rabbitmq()
    yield broker_users(server, VHOST, USERS)
    server.control("delete_vhost", VHOST)


def _bus(url: str, bindings: topology.Bindings = BINDINGS) -> RabbitMqBus:
    return RabbitMqBus(url, SystemClock(), bindings=bindings, name="test")


def test_what_a_user_lacks_is_named_and_nothing_is_changed(urls: dict[str, str]) -> None:
    """It declared all queues. Before the first start, and after it."""

    async def scenario() -> None:
        await _all_are_told(urls)
        bus = _bus(urls["all"])
        await bus.start()
        await bus.stop()
        await _all_are_told(urls)

    asyncio.run(asyncio.wait_for(scenario(), 90))


async def _all_are_told(urls: dict[str, str]) -> None:
    server = servers.rabbitmq()
    before = await asyncio.to_thread(in_broker, server, VHOST)
    said = await _bus(urls["all"]).check()
    assert re.fullmatch(rf"RabbitMQ \d+\.\d+\.\d+ at 127\.0\.0\.1:{server.port}", said)
    for user, lacking in LACKING.items():
        with pytest.raises(BusError) as caught:
            await _bus(urls[user]).check()
        _, *told = str(caught.value).split("it lacks ")
        assert len(told) == len(lacking), f"{user} lacks no more than {lacking}: {told}"
        for one, expected in zip(told, lacking, strict=True):
            assert one.startswith(expected), user
    assert await asyncio.to_thread(in_broker, server, VHOST) == before


def test_a_queue_with_other_arguments_is_named_before_a_start_meets_it(urls: dict[str, str]) -> None:
    url = urls["all"]

    async def scenario() -> None:
        other = RabbitMqBus(url, SystemClock(), bindings={"third.queue": ()}, second_ms=7)
        await other.start()
        await other.stop()
        with pytest.raises(BusError, match=r"queue third\.queue\.retry\.\d+ is there with other arguments"):
            await _bus(url, {"third.queue": ()}).check()

    asyncio.run(scenario())


@contextlib.asynccontextmanager
async def _calling_itself(server: RabbitMq, product: str, version: str) -> AsyncIterator[str]:
    """The URL of a proxy before it, who says another name and version in the first frame."""
    conversations: set[asyncio.Task[None]] = set()

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers, broker = await asyncio.open_connection("127.0.0.1", server.port)
        questions = asyncio.create_task(_copy(reader, broker))
        try:
            kind, channel, size = _FRAME.unpack(await answers.readexactly(_FRAME.size))
            start = await answers.readexactly(size + 1)
            for name, value in ((b"product", product), (b"version", version)):
                start = _replaced(start, name, value.encode())
            # The size of the table of properties: after class, method and the two numbers of the protocol.
            change = len(start) - size - 1
            table = int.from_bytes(start[6:10], "big") + change
            writer.write(_FRAME.pack(kind, channel, size + change) + start[:6] + table.to_bytes(4, "big"))
            writer.write(start[10:])
            await _copy(answers, writer)
        finally:
            questions.cancel()
            for each in (writer, broker):
                each.transport.abort()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        conversations.add(asyncio.ensure_future(converse(reader, writer)))

    proxy = await asyncio.start_server(accept, "127.0.0.1", 0)
    port = proxy.sockets[0].getsockname()[1]
    try:
        yield server.url.replace(str(server.port), str(port))
    finally:
        proxy.close()
        for conversation in conversations:
            conversation.cancel()
        await asyncio.gather(*conversations, return_exceptions=True)
        await asyncio.sleep(0)  # until what was aborted is closed


def _replaced(start: bytes, name: bytes, value: bytes) -> bytes:
    """A text in a table: the length of its name, its name, S, its length in four bytes, it."""
    head = bytes((len(name),)) + name + b"S"
    at = start.index(head) + len(head)
    after = at + 4 + int.from_bytes(start[at : at + 4], "big")
    return start[:at] + len(value).to_bytes(4, "big") + value + start[after:]


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)


@pytest.mark.parametrize(
    ("product", "version", "is_too_old"),
    [
        ("RabbitMQ", "3.9.13", True),
        ("RabbitMQ", "2.8.7", True),
        ("RabbitMQ", "3.10.0", False),
        ("RabbitMQ", "4.0.0", False),
        ("RabbitMQ", "latest", False),
        ("LavinMQ", "2.0.0", False),
    ],
)
def test_a_broker_that_is_too_old_is_refused_with_its_version(
    product: str, version: str, is_too_old: bool
) -> None:
    """The queues ask for what 3.9 does not know, and its complaints did not say why."""

    async def scenario() -> str:
        async with _calling_itself(servers.rabbitmq(), product, version) as url:
            bus = _bus(url, {})
            try:
                return await bus.check()
            finally:
                await bus.stop()

    if is_too_old:
        with pytest.raises(BusUnavailableError, match=rf"{product} {version} at .* is too old, 3\.10 is"):
            asyncio.run(scenario())
    else:
        assert asyncio.run(scenario()).startswith(f"{product} {version} at ")
