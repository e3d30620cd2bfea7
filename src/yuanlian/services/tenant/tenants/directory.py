"""The tenant directory on top of the tenants table, with a bounded cache in front of it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import cast

from sqlalchemy.orm import Session

from yuanlian.kit.clock import Clock
from yuanlian.kit.database.database import Database
from yuanlian.kit.tenancy.directory import Isolation, Tenant, TenantStatus
from yuanlian.services.tenant.tenants import repository
from yuanlian.services.tenant.tenants.feed import TenantFeed
from yuanlian.services.tenant.tenants.models import TenantRow

CACHE_LIMIT = 10_000
FOUND_MS = 60_000
MISSING_MS = 5_000
"""A kindergarten that was just opened is there within seconds, and guessing ids costs us nothing."""

Key = tuple[str, str]


def to_tenant(row: TenantRow) -> Tenant:
    return Tenant(
        id=row.id,
        name=row.name,
        domain=row.domain,
        status=cast(TenantStatus, row.status),
        isolation=cast(Isolation, row.isolation),
        time_zone=row.time_zone,
    )


class DatabaseTenantDirectory:
    """Implements ``TenantDirectory``. Answers are kept for ``FOUND_MS``, "no such tenant" for
    ``MISSING_MS``; ``changed`` drops what is known about a tenant and tells the listeners. ``feed`` and
    ``look_up``: for those in other processes, who must not hear from one instance what another changed.
    ``elsewhere``: tells the other processes of this service, each of which has to ``enter`` it."""

    def __init__(
        self, database: Database, clock: Clock, elsewhere: Callable[[Tenant], None] = lambda _: None
    ) -> None:
        self._elsewhere = elsewhere
        self._database = database
        self._clock = clock
        self._known: OrderedDict[Key, tuple[Tenant | None, int]] = OrderedDict()
        self._listeners: list[Callable[[Tenant], None]] = []
        self._changes = 0
        self.feed = TenantFeed(database)

    async def find(self, tenant_id: str) -> Tenant | None:
        return await self._cached(("id", tenant_id), lambda s: repository.get(s, tenant_id))

    def at_hand(self, tenant_id: str) -> Tenant | None:
        known = self._known.get(("id", tenant_id))
        return known[0] if known is not None and known[1] > self._clock.now_ms() else None

    async def find_by_domain(self, domain: str) -> Tenant | None:
        """A full host name is matched whole. A first label matches the one tenant whose domain
        starts with it; when several do, none: nobody is sent to the wrong kindergarten."""
        return await self._cached(("domain", domain), lambda s: _by_domain(s, domain))

    async def look_up(self, *, tenant_id: str | None = None, domain: str = "") -> Tenant | None:
        """By either, from the database, whatever is kept here: an instance that was told of no change may
        be asked by one that was."""
        if tenant_id is not None:
            return await self._read(lambda session: repository.get(session, tenant_id))
        return await self._read(lambda session: _by_domain(session, domain))

    def on_change(self, listener: Callable[[Tenant], None]) -> None:
        self._listeners.append(listener)

    def changed(self, tenant: Tenant) -> None:
        """Call after the commit that changed (or made) ``tenant``."""
        self.enter(tenant)
        self._elsewhere(tenant)

    def forget(self) -> None:
        """Changes may have been missed."""
        self._changes += 1
        self._known.clear()

    def enter(self, tenant: Tenant) -> None:
        """Some process has changed it."""
        self._changes += 1
        self._known.pop(("id", tenant.id), None)
        # A domain may have become this tenant's, or stopped being it.
        for key in [key for key in self._known if key[0] == "domain"]:
            del self._known[key]
        for listener in self._listeners:
            listener(tenant)
        self.feed.look()

    async def _cached(self, key: Key, look_up: Callable[[Session], TenantRow | None]) -> Tenant | None:
        now = self._clock.now_ms()
        known = self._known.get(key)
        if known is not None and known[1] > now:
            self._known.move_to_end(key)
            return known[0]
        before = self._changes
        tenant = await self._read(look_up)
        # What was read before a change may be older than the change: answer it, do not keep it.
        if before == self._changes:
            self._known[key] = tenant, now + (FOUND_MS if tenant is not None else MISSING_MS)
            self._known.move_to_end(key)
            if len(self._known) > CACHE_LIMIT:
                self._known.popitem(last=False)
        return tenant

    async def _read(self, look_up: Callable[[Session], TenantRow | None]) -> Tenant | None:
        row = await self._database.read(look_up)
        return to_tenant(row) if row is not None else None


def _by_domain(session: Session, domain: str) -> TenantRow | None:
    if "." in domain:
        return repository.by_domain(session, domain)
    matches = repository.by_first_label(session, domain)
    return matches[0] if len(matches) == 1 else None
