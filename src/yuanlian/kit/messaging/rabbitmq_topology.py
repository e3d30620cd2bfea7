"""Exchanges, queues and bindings. CONTRACT §8, decision record 0013.

A message is published to ``kindergarten.topic`` with its type as routing key and lands in every queue bound
to the type. What failed goes to ``<queue>.retry.<seconds>``, whose time to live brings it back to the
queue; what is given up goes to ``<queue>.dead``. ``kindergarten.direct`` reaches one queue by its name,
``kindergarten.fanout`` all of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from aiormq.abc import AbstractChannel
from aiormq.exceptions import ChannelAccessRefused, ChannelPreconditionFailed

from yuanlian.kit.messaging.bus import BusError
from yuanlian.kit.messaging.delivery import BACKOFF_SECONDS
from yuanlian.kit.messaging.rabbitmq_channel import Link, asked

DIRECT, FANOUT, TOPIC = "kindergarten.direct", "kindergarten.fanout", "kindergarten.topic"
EXCHANGES = {DIRECT: "direct", FANOUT: "fanout", TOPIC: "topic"}

RETURNS = 100
"""How often RabbitMQ may hand a message out again before it calls it dead: what ends every process that
touches it must not do so for ever. Said here because the default differs between its versions."""
LOOKS = 1_000_000
"""The same of dead letters: looking at them takes them and gives them back."""

Bindings = Mapping[str, Sequence[str]]
"""Queue and the message types that go there."""


def dead(queue: str) -> str:
    return f"{queue}.dead"


def retry(queue: str, seconds: int) -> str:
    return f"{queue}.retry.{seconds}"


@dataclass(frozen=True, slots=True)
class Declared:
    """``arguments``: of a queue; ``type``: of an exchange."""

    kind: Literal["queue", "exchange"]
    name: str
    type: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"

    def declare(self, channel: AbstractChannel) -> Awaitable[Any]:
        """What is there already stays as it is."""
        return self._declare(channel, self.arguments)

    def declare_wrongly(self, channel: AbstractChannel) -> Awaitable[Any]:
        """In a way that the broker refuses, whether it is there or not."""
        return self._declare(
            channel, {"x-message-ttl": -1} if self.kind == "queue" else {"alternate-exchange": -1}
        )

    def look(self, channel: AbstractChannel) -> Awaitable[Any]:
        if self.kind == "queue":
            return channel.queue_declare(self.name, passive=True)
        return channel.exchange_declare(self.name, passive=True)

    def _declare(self, channel: AbstractChannel, arguments: Mapping[str, Any]) -> Awaitable[Any]:
        if self.kind == "queue":
            return channel.queue_declare(self.name, durable=True, arguments=dict(arguments))
        return channel.exchange_declare(
            self.name, exchange_type=self.type, durable=True, arguments=dict(arguments)
        )


def exchanges() -> Iterator[Declared]:
    for name, kind in EXCHANGES.items():
        yield Declared("exchange", name, type=kind)


def queues(bindings: Bindings, second_ms: int) -> Iterator[Declared]:
    for queue in bindings:
        yield from _family(queue, second_ms)


async def declare(link: Link, bindings: Bindings, second_ms: int) -> None:
    """All of it; what is there already stays as it is.

    Raises:
        BusError: a queue or exchange of this name is there with other arguments, or may not be declared.
    """
    channel = await link.channel()
    for exchange in exchanges():
        await _checked(exchange.declare(channel), exchange)
    await asked(channel.close())
    await asyncio.gather(
        *(_declare_family(link, queue, types, second_ms) for queue, types in bindings.items())
    )


async def _declare_family(link: Link, queue: str, types: Sequence[str], second_ms: int) -> None:
    channel = await link.channel()
    for one in _family(queue, second_ms):
        await _checked(one.declare(channel), one)
    for exchange, key in ((DIRECT, queue), (FANOUT, ""), *((TOPIC, type_) for type_ in types)):
        await _checked(channel.queue_bind(queue, exchange, key), f"binding of {queue} to {exchange}")
    await asked(channel.close())


def _family(queue: str, second_ms: int) -> Iterator[Declared]:
    """In the order in which they may be declared."""
    yield _quorum(dead(queue), {"x-delivery-limit": LOOKS})
    for seconds in BACKOFF_SECONDS:
        yield _quorum(retry(queue, seconds), {"x-message-ttl": seconds * second_ms, **_leads_to(queue)})
    yield _quorum(queue, {"x-delivery-limit": RETURNS, **_leads_to(dead(queue))})


def _quorum(name: str, arguments: Mapping[str, Any]) -> Declared:
    return Declared("queue", name, arguments={"x-queue-type": "quorum", **arguments})


async def consumed(link: Link, queues: Iterable[str]) -> bool:
    """Whether each of them is there and has a consumer."""
    channel = await link.channel()
    try:
        for queue in queues:
            found = await asked(channel.queue_declare(queue, passive=True))
            if not found.consumer_count:
                return False
    finally:
        await asked(channel.close())
    return True


def _leads_to(queue: str) -> dict[str, Any]:
    """Where a message goes when its time is up, or its limit reached: confirmed there before it leaves
    here (RabbitMQ 3.10), which is only to be had without dropping at the head."""
    return {
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": queue,
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
    }


def otherwise_there(what: object, error: ChannelPreconditionFailed) -> BusError:
    return BusError(
        f"{what} is there with other arguments than this release gives it ({error}); "
        "let it run empty, delete it and start again"
    )


async def _checked(declaring: Any, what: object) -> None:
    try:
        await asked(declaring)
    except ChannelPreconditionFailed as error:
        raise otherwise_there(what, error) from error
    except ChannelAccessRefused as error:
        raise BusError(
            f"{what}: the user needs the configure, write and read permissions ({error})"
        ) from error
