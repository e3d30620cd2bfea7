"""The tenants, as a gateway in another process knows them."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from time import monotonic
from typing import NamedTuple

import msgspec

from yuanlian.contracts.tenant import DIRECTORY_CHANGES_PATH, DIRECTORY_PATH, SERVICE, Found
from yuanlian.gateway.feed_follower import GATEWAY, FeedFollower
from yuanlian.kit.errors import AppError
from yuanlian.kit.feed import Changes
from yuanlian.kit.http.client import ServiceClient
from yuanlian.kit.tenancy.directory import Tenant

CACHE_LIMIT = 10_000
FOUND_S = 60.0
MISSING_S = 5.0
RETRY_S = 1.0
"""How long an answer that could not be renewed counts until the service is asked again."""

Key = tuple[str, str]


class _Known(NamedTuple):
    tenant: Tenant | None
    until: float


class FollowedTenantDirectory:
    """Implements ``TenantDirectory``: asks the tenant service, and remembers, the least recently used
    forgotten first. Changes arrive over the feed, within a second. While the service is away, whoever
    is known stays known as they were; whoever is not cannot be looked up: ``ServiceUnavailableError``
    or what else the call raises.
    """

    def __init__(self, client: ServiceClient, clock: Callable[[], float] = monotonic) -> None:
        self._client = client
        self._clock = clock
        self._known: OrderedDict[Key, _Known] = OrderedDict()
        self._asking: dict[Key, asyncio.Task[Tenant | None]] = {}
        self._listeners: list[Callable[[Tenant], None]] = []
        self._changes = 0
        self.feed: FeedFollower[Tenant] = FeedFollower(
            client, SERVICE, DIRECTORY_CHANGES_PATH, Changes[Tenant], self._enter, clock
        )

    def __len__(self) -> int:
        return len(self._known)

    async def find(self, tenant_id: str) -> Tenant | None:
        return await self._find(("id", tenant_id))

    def at_hand(self, tenant_id: str) -> Tenant | None:
        known = self._known.get(("id", tenant_id))
        return known.tenant if known is not None and known.until > self._clock() else None

    async def find_by_domain(self, domain: str) -> Tenant | None:
        return await self._find(("domain", domain))

    def on_change(self, listener: Callable[[Tenant], None]) -> None:
        self._listeners.append(listener)

    async def check(self) -> str:
        """A health check: says how old the knowledge is; known tenants are served whatever its age."""
        age = self.feed.age_s
        return "never heard of the tenant service" if age is None else f"known as of {age:.1f} s ago"

    async def _find(self, key: Key) -> Tenant | None:
        known = self._known.get(key)
        if known is not None:
            self._known.move_to_end(key)
            if known.until > self._clock():
                return known.tenant
        asking = self._asking.get(key)
        if asking is None:
            asking = self._asking[key] = asyncio.create_task(self._ask(key))
            asking.add_done_callback(lambda task: self._asked(key, task))
        try:
            # One who leaves must not take the answer away from the others.
            return await asyncio.shield(asking)
        except (AppError, msgspec.ValidationError):
            if known is None:
                raise
            self._known[key] = _Known(known.tenant, self._clock() + RETRY_S)
            return known.tenant

    def _asked(self, key: Key, task: asyncio.Task[Tenant | None]) -> None:
        del self._asking[key]
        if not task.cancelled():
            task.exception()  # it is told to whoever waits; when all have left, to nobody

    async def _ask(self, key: Key) -> Tenant | None:
        before = self._changes
        kind, name = key
        answer = await self._client.call(
            SERVICE, "GET", DIRECTORY_PATH, principal=GATEWAY, query={kind: name}
        )
        tenant = msgspec.convert(answer, Found).tenant
        # What was asked before a change may be older than the change: answer it, do not keep it.
        if before == self._changes:
            self._known[key] = _Known(tenant, self._clock() + (FOUND_S if tenant else MISSING_S))
            self._forget()
        return tenant

    def enter(self, tenant: Tenant) -> None:
        """It has changed, as is known by a quicker way than the feed."""
        self._take(Changes("", complete=False, items=(tenant,)))

    def forget(self) -> None:
        """Changes may have been missed."""
        self._take(Changes("", complete=True))

    async def _enter(self, changes: Changes[Tenant]) -> None:
        self._take(changes)

    def _take(self, changes: Changes[Tenant]) -> None:
        self._changes += 1
        changed = {tenant.id for tenant in changes.items}
        for key, known in list(self._known.items()):
            # A domain may have become another tenant's. What is old stays, in case nobody answers.
            if changes.complete or key[0] == "domain" or key[1] in changed:
                self._known[key] = _Known(known.tenant, 0.0)
        for tenant in changes.items:
            self._known["id", tenant.id] = _Known(tenant, self._clock() + FOUND_S)
            for listener in self._listeners:
                listener(tenant)
        self._forget()

    def _forget(self) -> None:
        while len(self._known) > CACHE_LIMIT:
            self._known.popitem(last=False)
