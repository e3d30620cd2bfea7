"""The message bus as services see it. Adapters: ``LocalBus``, ``RabbitMqBus``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from yuanlian.kit.messaging.message import Message
from yuanlian.kit.messaging.tally import Tally

Handler = Callable[[Sequence[Message]], Awaitable[None]]


class BusError(Exception):
    """The bus cannot do what it was asked to."""


class BusUnavailableError(BusError):
    """The broker does not answer, or has not said that it has the messages. Try again later."""


class MessageRefusedError(BusError):
    """No broker would ever take this message: it is too large, or a name in it too long.

    ``message``: the first such. Nothing of the same ``publish`` was sent.
    """

    def __init__(self, message: Message, reason: str) -> None:
        super().__init__(f"{message.id}: {reason}")
        self.message = message


@dataclass(frozen=True, slots=True)
class Subscription:
    """A durable queue and who empties it.

    ``types`` are the message types routed to ``queue``. ``handler`` gets up to ``batch`` messages,
    of any tenants, oldest first. When it raises for several messages, each is tried alone, so one
    poison message never holds the others back. A non-retryable ``AppError`` or a malformed message
    goes to the dead letters at once; anything else is retried after 1, 5, 30, 300 seconds, at most
    ``message.retry`` times, then it goes to the dead letters. ``DependencyAwayError`` is no fault of
    any message: the queue stands still until the handler finds again what it needs. One message may be
    delivered more than once (a key of its rows tells, or ``inbox.once``), and handlers of several queues
    may be given the same object: never change its ``data``.
    """

    queue: str
    types: tuple[str, ...]
    handler: Handler
    batch: int = 128


class Bus(Protocol):
    """At-least-once delivery to every queue whose subscription names the message's type.

    Order holds within a queue while nothing fails. Handlers of one queue run one batch at a time
    in this process; other processes may consume the same queue. A message is gone from its queue
    only after its handler returned.
    """

    def subscribe(self, subscription: Subscription) -> None:
        """Declares the queue and its handler; call before ``start``."""
        ...

    async def publish(self, messages: Sequence[Message]) -> None:
        """Returns when the caller may forget the messages: in every bound queue each is durable, or
        its handler has returned already. Raises if that is not so of any; publish them all again.

        Until then the caller's copy is the one that survives a crash; the relay keeps it in the
        outbox. A slow handler holds nobody up: its queue makes the message durable instead. Calls
        may overlap; a queue gets the messages in the order of the calls.
        """
        ...

    def tallies(self) -> Mapping[str, Tally]:
        """What became of deliveries here, by queue subscribed to."""
        ...

    async def start(self) -> None: ...

    async def stop(self) -> None:
        """Stops consuming; the batch at hand is finished first, the rest is durable."""
        ...
