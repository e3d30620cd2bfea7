"""The shared level of the cache in Redis."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from yuanlian.kit.caching.keys import escaped
from yuanlian.kit.caching.store import Found, Invalidated
from yuanlian.kit.channels import Channels
from yuanlian.kit.redis import Redis
from yuanlian.kit.redis_scripts import Script

CHANNEL = "cache.invalidated"
CLAIM_MS = 10_000
"""A loader that takes longer may be joined by a second one."""
GENERATION_S = 7 * 24 * 3600
MARK = b"\x00"

# The number of a generation is the time of its beginning: one that was lost (evicted, flushed, a node
# that failed) is followed by a greater one, and never brings back what was stored under it.
_VERSION = Script("""
local known = redis.call('GETEX', KEYS[1], 'EX', ARGV[1])
if known then return known end
local time = redis.call('TIME')
local version = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('SET', KEYS[1], string.format('%.0f', version), 'EX', ARGV[1])
return string.format('%.0f', version)
""")
_NEXT = Script("""
local time = redis.call('TIME')
local version = time[1] * 1000 + math.floor(time[2] / 1000)
local known = tonumber(redis.call('GET', KEYS[1]) or '0')
if version <= known then version = known + 1 end
redis.call('SET', KEYS[1], string.format('%.0f', version), 'EX', ARGV[1])
return 1
""")
# Freshness is told by what is left of the life that Redis counts: clocks of processes do not matter.
_FIND = Script("""
local value = redis.call('GET', KEYS[1])
if not value then return false end
return {value, redis.call('PTTL', KEYS[1])}
""")
_PUT = Script("""
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
redis.call('DEL', KEYS[2])
return 1
""")
_RELEASE = Script("""
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
return 1
""")


class RedisStore:
    """Implements ``Store``. A stored value begins with how long it may be served stale."""

    def __init__(self, redis: Redis, channels: Channels) -> None:
        self._redis = redis
        self._channels = channels

    async def version(self, prefix: str) -> int:
        return int(await self._redis.run(_VERSION, [_generation(prefix)], [GENERATION_S]))

    async def find(self, prefix: str, id_: str, version: int) -> Found | None:
        answer = await self._redis.run(_FIND, [_key(prefix, id_, version)], [])
        if answer is None:
            return None
        value, left_ms = answer
        stale_ms, _, blob = value.partition(MARK)
        return Found(blob, left_ms > int(stale_ms))

    async def claim(self, prefix: str, id_: str, version: int, token: str) -> bool:
        lock = _lock(_key(prefix, id_, version))
        return bool(await self._redis.execute("SET", lock, token, "NX", "PX", CLAIM_MS))

    async def put(
        self, prefix: str, id_: str, version: int, token: str, blob: bytes, *, fresh_s: float, stale_s: float
    ) -> bool:
        key = _key(prefix, id_, version)
        value = b"%d%b%b" % (stale_s * 1000, MARK, blob)
        life_ms = int((fresh_s + stale_s) * 1000)
        return bool(await self._redis.run(_PUT, [key, _lock(key)], [token, value, life_ms]))

    async def release(self, prefix: str, id_: str, version: int, token: str) -> None:
        await self._redis.run(_RELEASE, [_lock(_key(prefix, id_, version))], [token])

    async def drop(self, prefix: str, id_: str, version: int) -> None:
        key = _key(prefix, id_, version)
        await self._redis.execute("DEL", key, _lock(key))
        await self._tell(prefix, id_)

    async def drop_all(self, prefix: str) -> None:
        await self._redis.run(_NEXT, [_generation(prefix)], [GENERATION_S])
        await self._tell(prefix, None)

    def listen(
        self, invalidated: Invalidated, on_open: Callable[[], None], on_lost: Callable[[], None]
    ) -> None:
        def heard(message: bytes) -> None:
            prefix, id_ = msgspec.msgpack.decode(message, type=tuple[str, str | None])
            invalidated(prefix, id_)

        self._channels.listen(CHANNEL, heard, on_open=on_open, on_lost=on_lost)

    async def _tell(self, prefix: str, id_: str | None) -> None:
        await self._redis.execute("PUBLISH", CHANNEL, msgspec.msgpack.encode((prefix, id_)))


def _key(prefix: str, id_: str, version: int) -> str:
    return f"{prefix}:{escaped(id_)}:v{version}"


def _lock(key: str) -> str:
    """In the slot of ``key``: what stands in braces decides, and keys have none (``keys.escaped``)."""
    return f"lock:{{{key}}}"


def _generation(prefix: str) -> str:
    return f"generation:{prefix}"
