"""What the processes of one installation share through Redis: limits, cache, live events, registry."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from yuanlian.kit.caching.cache import Cache
from yuanlian.kit.caching.redis import RedisStore
from yuanlian.kit.channels import Channels
from yuanlian.kit.clock import Clock
from yuanlian.kit.identity.redis import BroadcastRevocations
from yuanlian.kit.realtime.redis import RedisHub
from yuanlian.kit.redis import Redis
from yuanlian.kit.registry.redis import RedisRegistry
from yuanlian.kit.resilience.limiter import RateLimiter
from yuanlian.kit.resilience.memory import MemoryRateLimiter
from yuanlian.kit.resilience.redis import RedisRateLimiter
from yuanlian.kit.tenancy.redis import TenantChanges
from yuanlian.runtime.settings import Settings, UnsupportedSettingError


@dataclass(frozen=True)
class Shared:
    """Made at once, connected by ``running``. The registry may have a Redis of its own."""

    redis: Redis
    registry_redis: Redis
    channels: Channels
    registry_channels: Channels
    cache: Cache
    hub: RedisHub
    registry: RedisRegistry
    limiter: RateLimiter
    revocations: BroadcastRevocations
    tenants: TenantChanges

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(self.redis.close)
            if self.registry_redis is not self.redis:
                stack.push_async_callback(self.registry_redis.close)
            await self.hub.start()
            stack.push_async_callback(self.hub.stop)
            await self.registry.start()
            stack.push_async_callback(self.registry.stop)
            for channels in {self.channels, self.registry_channels}:
                await channels.start()
                stack.push_async_callback(channels.stop)
            yield


def shared(settings: Settings, clock: Clock) -> Shared:
    """Raises:
    UnsupportedSettingError: a setting that several processes cannot follow.
    """
    for name in ("cache_url", "registry_url"):
        if not getattr(settings, name).startswith(("redis://", "rediss://")):
            raise UnsupportedSettingError(
                f"YUANLIAN_{name.upper()}: processes of their own share what they know through Redis; "
                f"for example redis://127.0.0.1:6379/0"
            )
    redis = Redis(settings.cache_url)
    channels = Channels(redis)
    if settings.registry_url == settings.cache_url:
        registry_redis, registry_channels = redis, channels
    else:
        registry_redis = Redis(settings.registry_url)
        registry_channels = Channels(registry_redis)
    return Shared(
        redis=redis,
        registry_redis=registry_redis,
        channels=channels,
        registry_channels=registry_channels,
        cache=Cache(RedisStore(redis, channels)),
        hub=RedisHub(redis, channels),
        registry=RedisRegistry(registry_redis, registry_channels),
        limiter=RedisRateLimiter(redis, MemoryRateLimiter(clock)),
        revocations=BroadcastRevocations(redis, clock),
        tenants=TenantChanges(redis, channels),
    )
