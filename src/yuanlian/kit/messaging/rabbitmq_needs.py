"""What a RabbitMQ user must be allowed, and how to find out without leaving anything behind.

The broker looks at permissions before it looks at anything else. So what would change something is asked for
in a way that cannot be done: a queue with a time to live below zero, a binding that nobody made. What fails
is a line in the broker's log; therefore what is there already is declared as it is, which does not fail.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from aiormq.abc import AbstractChannel, DeliveredMessage
from aiormq.exceptions import (
    AMQPError,
    ChannelAccessRefused,
    ChannelNotFoundEntity,
    ChannelPreconditionFailed,
)

from yuanlian.kit.messaging import rabbitmq_topology as topology
from yuanlian.kit.messaging.bus import BusError, BusUnavailableError
from yuanlian.kit.messaging.rabbitmq_channel import Link, asked

NOBODY = "yuanlian-check"
"""A key and an exchange that nobody has."""
DEFAULT = "amq.default"
"""What the permissions call the exchange without a name, by which messages go to be retried."""
AT_ONCE = 4
"""Channels. When ten frames wait to be sent, aiormq leaves out its answer to a channel that was closed."""
SHOWN = 3

Do = Callable[[AbstractChannel], Awaitable[Any]]


class _Asker:
    """Asks on one channel after the other: what fails ends its channel."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._channel: AbstractChannel | None = None

    async def outcome(self, do: Do) -> AMQPError | None:
        channel, self._channel = self._channel or await self._link.channel(), None
        try:
            await asked(do(channel))
        except (ChannelAccessRefused, ChannelPreconditionFailed) as error:
            return error
        except BusUnavailableError as error:
            if isinstance(error.__cause__, ChannelNotFoundEntity):
                return error.__cause__
            raise
        self._channel = channel
        return None


@dataclass(frozen=True, slots=True, eq=False)
class _Question:
    """Whether a permission is lacking."""

    permission: Literal["configure", "write", "read"]
    kind: Literal["queue", "exchange"]
    name: str
    lacking: Callable[[_Asker], Awaitable[bool]]


async def refuse_lacking(link: Link, bindings: topology.Bindings, second_ms: int) -> None:
    """Raises:
    BusError: the user may not do all that the platform does, or a queue or exchange is there with other
        arguments.
    """
    questions = [*_configuring(bindings, second_ms), *_writing(bindings), *_reading(bindings)]
    left = iter(questions)

    async def ask() -> set[_Question]:
        asker = _Asker(link)
        return {question for question in left if await question.lacking(asker)}

    lacks = set().union(*await asyncio.gather(*(ask() for _ in range(AT_ONCE))))
    if lacks:
        raise BusError(
            "the user needs the configure, write and read permissions "
            "(rabbitmqctl set_permissions -p VHOST USER '.*' '.*' '.*'), "
            + _said([question for question in questions if question in lacks])
        )


def _configuring(bindings: topology.Bindings, second_ms: int) -> Iterator[_Question]:
    for thing in (*topology.exchanges(), *topology.queues(bindings, second_ms)):
        yield _Question("configure", thing.kind, thing.name, partial(_may_not_declare, thing))


async def _may_not_declare(thing: topology.Declared, asker: _Asker) -> bool:
    """Raises:
    BusError: it is there with other arguments.
    """
    if await asker.outcome(thing.look) is not None:
        return isinstance(await asker.outcome(thing.declare_wrongly), ChannelAccessRefused)
    error = await asker.outcome(thing.declare)
    if isinstance(error, ChannelPreconditionFailed):
        raise topology.otherwise_there(thing, error)
    return error is not None


def _writing(bindings: topology.Bindings) -> Iterator[_Question]:
    def unbind(name: str) -> Do:
        return lambda channel: channel.queue_unbind(name, topology.DIRECT, NOBODY)

    def leave(name: str) -> Do:
        return lambda channel: channel.exchange_unbind(name, NOBODY, NOBODY)

    for queue in bindings:
        yield _Question("write", "queue", queue, _refused(queue, unbind(queue)))
    for exchange in (topology.DIRECT, topology.TOPIC):
        yield _Question("write", "exchange", exchange, _refused(exchange, leave(exchange)))
    yield _Question("write", "exchange", DEFAULT, _refused(DEFAULT, _publish_to_nobody))


def _reading(bindings: topology.Bindings) -> Iterator[_Question]:
    def consume(queue: str) -> Do:
        arguments: dict[str, Any] = {"x-priority": NOBODY}  # which is no number
        return lambda channel: channel.basic_consume(queue, _nothing, arguments=arguments)

    def unbind(queue: str, exchange: str) -> Do:
        return lambda channel: channel.queue_unbind(queue, exchange, NOBODY)

    for queue in bindings:
        yield _Question("read", "queue", queue, _refused(queue, consume(queue)))
    for queue in list(bindings)[:1]:
        for exchange in topology.EXCHANGES:
            yield _Question("read", "exchange", exchange, _refused(exchange, unbind(queue, exchange)))


def _refused(name: str, do: Do) -> Callable[[_Asker], Awaitable[bool]]:
    """What rests on two permissions is refused by the name of the one that is lacking."""

    async def lacking(asker: _Asker) -> bool:
        error = await asker.outcome(do)
        return isinstance(error, ChannelAccessRefused) and f"'{name}'" in str(error)

    return lacking


async def _publish_to_nobody(channel: AbstractChannel) -> None:
    await channel.basic_publish(b"", routing_key=NOBODY)
    await channel.basic_qos(prefetch_count=1)  # answered after the message was looked at


async def _nothing(_message: DeliveredMessage) -> None:
    return None


def _said(lacks: Sequence[_Question]) -> str:
    return "; ".join(
        f"it lacks {permission} of {_listed(names)}"
        for permission in ("configure", "write", "read")
        if (names := [f"{one.kind} {one.name}" for one in lacks if one.permission == permission])
    )


def _listed(names: Sequence[str]) -> str:
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")
