"""Realtime within one process."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence

from yuanlian.kit.realtime.frames import text_frame
from yuanlian.kit.realtime.history import Entry, History
from yuanlian.kit.realtime.hub import Encode, Event, Subscriber

TENANT_OVERHEAD = 1024
"""Bytes that a tenant costs with an empty history."""
DELIVERIES_PER_TURN = 2000
"""After so many, publishing lets the event loop serve others."""
SWEEP_STEP = 64
"""At most so many tenants are looked at in one sweep, so that no single event pays for all."""


class _TenantRealtime:
    """One tenant's subscribers by channel, and its history. No other tenant is reachable from here."""

    __slots__ = ("attached", "channels", "history", "touched")

    def __init__(self, history: History, now: float) -> None:
        self.history = history
        self.attached: dict[Subscriber, set[str]] = {}
        self.channels: dict[str, set[Subscriber]] = {}
        self.touched = now

    @property
    def size(self) -> int:
        return self.history.size + TENANT_OVERHEAD

    def follow(self, subscriber: Subscriber, channel: str) -> None:
        self.attached[subscriber].add(channel)
        self.channels.setdefault(channel, set()).add(subscriber)

    def leave(self, subscriber: Subscriber, channel: str) -> None:
        followers = self.channels.get(channel)
        if followers is None:
            return
        followers.discard(subscriber)
        if not followers:
            del self.channels[channel]

    def followers(self, channels: tuple[str, ...]) -> set[Subscriber]:
        """Each subscriber once; a set of its own, because a delivery may detach its subscriber."""
        followed = [self.channels[channel] for channel in channels if channel in self.channels]
        return set().union(*followed) if followed else set()


class MemoryHub:
    """Implements ``Hub`` and ``Realtime`` in memory. Everything runs on one event loop.

    Memory is bounded by ``max_events`` and ``max_bytes`` per tenant and by ``max_total_bytes`` over
    all: the tenants longest without an event lose their history first. A tenant that nobody
    watches is dropped after ``idle_s`` seconds, and ``on_dropped`` told so. ``now`` gives monotonic seconds.
    """

    def __init__(
        self,
        encode: Encode = text_frame,
        *,
        max_events: int = 1000,
        max_bytes: int = 256 * 1024,
        max_total_bytes: int = 64 * 1024 * 1024,
        idle_s: float = 900.0,
        now: Callable[[], float] = time.monotonic,
        on_dropped: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._encode = encode
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._max_total_bytes = max_total_bytes
        self._idle_s = idle_s
        self._now = now
        self._on_dropped = on_dropped
        self._tenants: OrderedDict[str, _TenantRealtime] = OrderedDict()
        self._size = 0

    @property
    def size(self) -> int:
        """Bytes held by histories, roughly."""
        return self._size

    @property
    def tenants(self) -> int:
        return len(self._tenants)

    @property
    def subscribers(self) -> int:
        return sum(len(tenant.attached) for tenant in self._tenants.values())

    async def publish(self, events: Sequence[Event]) -> None:
        deliveries = 0
        for event in events:
            deliveries += self._publish(event)
            if deliveries >= DELIVERIES_PER_TURN:
                deliveries = 0
                # Between events only: number and delivery of one event are one turn, so concurrent
                # publishers cannot reorder a tenant's events.
                await asyncio.sleep(0)

    def deliver(self, event: Event) -> None:
        """Publishes one event within the present turn of the event loop."""
        self._publish(event)

    def remember(self, event: Event) -> None:
        """Adds to the history what happened before; nobody is told."""
        self._append(self._tenant(event.tenant_id), event)

    def restart(self, tenant_id: str, epoch: str, sequence: int) -> None:
        """The tenant's history goes on after that cursor, and reaches no further back."""
        tenant = self._tenant(tenant_id)
        self._size -= tenant.history.size
        tenant.history = History(self._max_events, self._max_bytes, epoch, sequence)

    def position(self, tenant_id: str) -> tuple[str, int]:
        """Epoch and sequence of the tenant's newest event."""
        history = self._tenant(tenant_id).history
        return history.epoch, history.sequence

    def subscribers_of(self, tenant_id: str) -> tuple[Subscriber, ...]:
        tenant = self._tenants.get(tenant_id)
        return tuple(tenant.attached) if tenant is not None else ()

    async def ready(self, tenant_id: str) -> None:
        """Nothing comes from elsewhere."""

    async def close_user(self, tenant_id: str, user_id: str, code: int) -> None:
        tenant = self._tenants.get(tenant_id)
        if tenant is None:
            return
        for subscriber in [s for s in tenant.attached if s.user_id == user_id]:
            subscriber.close(code)

    async def cursor(self, tenant_id: str) -> str:
        return self._tenant(tenant_id).history.cursor()

    def attach(self, subscriber: Subscriber, channels: Iterable[str]) -> str:
        tenant = self._tenant(subscriber.tenant_id)
        tenant.attached.setdefault(subscriber, set())
        for channel in channels:
            tenant.follow(subscriber, channel)
        return tenant.history.cursor()

    def subscribe(self, subscriber: Subscriber, channel: str) -> str:
        return self.attach(subscriber, (channel,))

    def unsubscribe(self, subscriber: Subscriber, channel: str) -> None:
        tenant = self._tenants.get(subscriber.tenant_id)
        if tenant is None or subscriber not in tenant.attached:
            return
        tenant.attached[subscriber].discard(channel)
        tenant.leave(subscriber, channel)

    def detach(self, subscriber: Subscriber) -> None:
        tenant = self._tenants.get(subscriber.tenant_id)
        if tenant is None:
            return
        for channel in tenant.attached.pop(subscriber, ()):
            tenant.leave(subscriber, channel)
        tenant.touched = self._now()

    def replay(self, subscriber: Subscriber, cursor: str) -> bool:
        tenant = self._tenants.get(subscriber.tenant_id)
        if tenant is None or subscriber not in tenant.attached:
            return False
        missed = tenant.history.since(cursor)
        if missed is None:
            return False
        followed = frozenset(tenant.attached[subscriber])
        for entry in missed:
            if not followed.isdisjoint(entry.channels):
                subscriber.deliver(entry.frame, entry.cursor)
        return True

    def _publish(self, event: Event) -> int:
        tenant = self._tenant(event.tenant_id)
        entry = self._append(tenant, event)
        followers = tenant.followers(event.channels)
        for subscriber in followers:
            subscriber.deliver(entry.frame, entry.cursor)
        return len(followers)

    def _append(self, tenant: _TenantRealtime, event: Event) -> Entry:
        history = tenant.history
        before = history.size
        entry = history.append(event, self._encode)
        self._size += history.size - before
        tenant.touched = self._now()
        self._tenants.move_to_end(event.tenant_id)
        self._sweep()
        return entry

    def _tenant(self, tenant_id: str) -> _TenantRealtime:
        tenant = self._tenants.get(tenant_id)
        if tenant is None:
            history = History(self._max_events, self._max_bytes)
            tenant = self._tenants[tenant_id] = _TenantRealtime(history, self._now())
            self._size += tenant.size
            self._sweep()
        return tenant

    def _sweep(self) -> None:
        """Frees what the tenants longest without an event hold, as far as needed or idle."""
        now = self._now()
        for _ in range(min(SWEEP_STEP, len(self._tenants) - 1)):
            tenant_id, tenant = next(iter(self._tenants.items()))
            crowded = self._size > self._max_total_bytes
            if not crowded and now - tenant.touched < self._idle_s:
                return
            if tenant.attached:
                self._keep(tenant_id, tenant, crowded)
                tenant.touched = now
            else:
                self._size -= tenant.size
                del self._tenants[tenant_id]
                self._on_dropped(tenant_id)

    def _keep(self, tenant_id: str, tenant: _TenantRealtime, crowded: bool) -> None:
        """Watched tenants stay; when space is short, without their history."""
        if crowded:
            self._size -= tenant.history.size
            tenant.history.forget()
        self._tenants.move_to_end(tenant_id)
