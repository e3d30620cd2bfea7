"""Realtime channels as services see them. Source: specification "WebSocket实时通信", CONTRACT §7."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Event:
    """``payload``: the server message without ``tenantId`` and ``cursor``, which the hub adds.
    ``channels``: ``class:ID``, ``student:ID``, ``tenant``, ``user:ID``; a subscriber of several gets
    the event once."""

    tenant_id: str
    channels: tuple[str, ...]
    payload: dict[str, Any]


class Realtime(Protocol):
    """Best-effort fan-out with bounded history per tenant; what must not be lost goes over the bus."""

    async def publish(self, events: Sequence[Event]) -> None: ...

    async def cursor(self, tenant_id: str) -> str:
        """The point in the tenant's history reached now, to follow from later."""
        ...

    async def close_user(self, tenant_id: str, user_id: str, code: int) -> None:
        """Ends the user's connections in that tenant (4401, 4403), so that they reconnect with
        what they may see now."""
        ...


class Subscriber(Protocol):
    """One connection. Called on the event loop; must not block and must not raise."""

    tenant_id: str
    user_id: str

    def deliver(self, frame: bytes, cursor: str) -> None: ...

    def close(self, code: int) -> None: ...


class Hub(Realtime, Protocol):
    """The side of realtime that connections hang on."""

    def attach(self, subscriber: Subscriber, channels: Iterable[str]) -> str:
        """Starts delivery and returns the cursor from which it starts."""
        ...

    def subscribe(self, subscriber: Subscriber, channel: str) -> None: ...

    def detach(self, subscriber: Subscriber) -> None: ...

    def replay(self, subscriber: Subscriber, cursor: str) -> bool:
        """Delivers what came after ``cursor`` on the subscriber's channels, in order; False when
        history no longer reaches that far (or the cursor is not ours)."""
        ...


Encode = Callable[[dict[str, Any]], bytes]
