"""Realtime channels as services see them. Source: specification "WebSocket实时通信", CONTRACT §7."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Event:
    """``payload``: the server message without ``tenantId`` and ``cursor``, which the hub adds; or a
    function that makes it, called when somebody is there to receive it: most events nobody watches.
    ``channels``: ``class:ID``, ``student:ID``, ``tenant``, ``user:ID``; a subscriber of several gets
    the event once."""

    tenant_id: str
    channels: tuple[str, ...]
    payload: dict[str, Any] | Callable[[], dict[str, Any]]

    def message(self) -> dict[str, Any]:
        return self.payload() if callable(self.payload) else self.payload


class Realtime(Protocol):
    """Best-effort fan-out with bounded history per tenant; what must not be lost goes over the bus.

    Events of one tenant reach every subscriber in one order, that of their cursors.
    """

    async def publish(self, events: Sequence[Event]) -> None: ...

    async def close_user(self, tenant_id: str, user_id: str, code: int) -> None:
        """Ends the user's connections in that tenant (4401, 4403), so that they reconnect with
        what they may see now."""
        ...

    async def cursor(self, tenant_id: str) -> str:
        """Where the tenant's history stands. Taken *before* a snapshot is read, it resumes after
        that snapshot without a gap."""
        ...


class Subscriber(Protocol):
    """One connection, compared by identity. Called on the event loop; must not block and must not
    raise; may detach itself while it is being called."""

    @property
    def tenant_id(self) -> str: ...

    @property
    def user_id(self) -> str: ...

    def deliver(self, frame: bytes, cursor: str) -> None:
        """``frame``: ready to be written to the connection, shared with every other subscriber."""
        ...

    def close(self, code: int) -> None: ...

    def resync(self) -> None:
        """Events were lost on their way to this process: what the subscriber knows is to be read anew."""
        ...


class Hub(Realtime, Protocol):
    """The side of realtime that connections hang on. A subscriber is attached in its own tenant and
    never hears of another, whatever the names of the channels. Nothing is delivered between the
    calls of one turn of the event loop: ``attach`` and then ``replay`` leave no gap and repeat nothing.
    """

    async def ready(self, tenant_id: str) -> None:
        """Returns when the tenant's history and events are at hand in this process, or after a moment
        when they cannot be had: then ``replay`` says that they do not reach. Await it before ``attach``."""
        ...

    def attach(self, subscriber: Subscriber, channels: Iterable[str]) -> str:
        """Starts delivery and returns the cursor from which it starts. Called again, it adds
        channels; with none, the subscriber is only within reach of ``close_user``."""
        ...

    def subscribe(self, subscriber: Subscriber, channel: str) -> str:
        """Adds one channel to an attached subscriber; returns the cursor from which it starts."""
        ...

    def unsubscribe(self, subscriber: Subscriber, channel: str) -> None: ...

    def detach(self, subscriber: Subscriber) -> None:
        """Ends delivery; nothing happens when it is not attached."""
        ...

    def replay(self, subscriber: Subscriber, cursor: str) -> bool:
        """Delivers what came after ``cursor`` on the subscriber's channels, in order; False, and
        nothing delivered, when history no longer reaches that far (or the cursor is not ours)."""
        ...


Encode = Callable[[dict[str, Any]], bytes]
"""A server message to the bytes that subscribers write."""


def user_channel(user_id: str) -> str:
    """The channel that only this user follows; clients call their own just ``user``."""
    return f"{USER_CHANNEL_PREFIX}{user_id}"


USER_CHANNEL_PREFIX = "user:"
