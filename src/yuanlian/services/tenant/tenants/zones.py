"""Each kindergarten's time zone, which nearly every page asks for and which nearly never changes."""

from __future__ import annotations

from zoneinfo import ZoneInfo

from sqlalchemy.orm import Session

from yuanlian.contracts.tenant import SERVICE
from yuanlian.kit.caching.cache import Cache
from yuanlian.kit.database.database import Database
from yuanlian.kit.errors import NotFoundError
from yuanlian.kit.tenancy.scope import tenant_scope
from yuanlian.services.tenant.tenants import repository
from yuanlian.services.tenant.wording import NO_TENANT

TTL_S = 300.0
_OWN = "own"


class TimeZones:
    """From the cache. What a check-in is judged by is read in its own transaction, not here."""

    def __init__(self, database: Database, cache: Cache) -> None:
        self._database = database
        self._space = cache.space(SERVICE, "time-zone", str, ttl_s=TTL_S)

    async def of(self, tenant_id: str) -> ZoneInfo:
        """Raises:
        NotFoundError: there is no such tenant.
        """

        def look(session: Session) -> str | None:
            row = repository.get(session, tenant_id)
            return row.time_zone if row is not None else None

        async def load() -> str | None:
            return await self._database.read(look)

        with tenant_scope(tenant_id):
            name = await self._space.get(_OWN, load)
        if name is None:
            raise NotFoundError(NO_TENANT)
        return ZoneInfo(name)

    async def changed(self, tenant_id: str) -> None:
        """Call after the commit that changed, or made, the tenant."""
        with tenant_scope(tenant_id):
            await self._space.drop(_OWN)
