"""What a service hands to the runtime: its manifest."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from yuanlian.kit.http.app import ServiceApp
from yuanlian.kit.messaging.bus import Subscription

HealthCheck = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class ServiceModule:
    """``name``: as in ``routes.yaml`` (``tenant-service``). ``checks``: raise when unhealthy.
    ``start``/``stop`` run around serving, in the order of the modules."""

    name: str
    app: ServiceApp
    subscriptions: Sequence[Subscription] = ()
    checks: dict[str, HealthCheck] = field(default_factory=dict)
    start: Callable[[], Awaitable[None]] | None = None
    stop: Callable[[], Awaitable[None]] | None = None
