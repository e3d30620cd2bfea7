"""Changes of tenants told at once to every process, over Redis."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec
import structlog

from yuanlian.kit.channels import Channels
from yuanlian.kit.redis import Redis, RedisAwayError
from yuanlian.kit.tenancy.directory import Tenant

CHANNEL = "tenants.changed"

_log = structlog.get_logger("tenancy")


class TenantChanges:
    """The quick way beside the tenant services' feed. What is said while Redis is away is lost, and
    ``missed`` is called when it can be heard again, so that whoever remembers tenants asks anew."""

    def __init__(self, redis: Redis, channels: Channels) -> None:
        self._redis = redis
        self._channels = channels
        self._telling: set[asyncio.Task[None]] = set()

    def tell(self, tenant: Tenant) -> None:
        """After the commit. Heard in this process, too."""
        task = asyncio.ensure_future(self._say(tenant))
        self._telling.add(task)  # the loop itself would forget it
        task.add_done_callback(self._telling.discard)

    def hear(self, changed: Callable[[Tenant], None], missed: Callable[[], None]) -> None:
        def heard(message: bytes) -> None:
            changed(msgspec.json.decode(message, type=Tenant))

        self._channels.listen(CHANNEL, heard, on_open=missed)

    async def _say(self, tenant: Tenant) -> None:
        try:
            await self._redis.execute("PUBLISH", CHANNEL, msgspec.json.encode(tenant))
        except RedisAwayError:
            _log.warning("a tenant's change goes by the feed alone: Redis is away", tenant_id=tenant.id)
