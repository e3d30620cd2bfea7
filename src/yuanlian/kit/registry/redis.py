"""The registry that all processes share, in Redis. CONTRACT §9.

The keys of one service are one slot of a cluster: its name stands in braces. Time is the server's own,
so that a process whose clock is wrong neither dies early nor lives on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import structlog

from yuanlian.kit.channels import Channels
from yuanlian.kit.redis import Redis, RedisAwayError
from yuanlian.kit.redis_scripts import Script
from yuanlian.kit.registry.registry import LIFETIME_MS, Instance, Listener

NAMES = "services"
REFRESH_S = 5.0
"""How often a watched service is looked at, besides when its set is said to have changed: an expiry says
nothing."""

_log = structlog.get_logger("registry")

_NOW = "local t = redis.call('TIME') local now = t[1] * 1000 + math.floor(t[2] / 1000) "
# KEYS: hash of the instance, sorted set of the service. ARGV: id, lifetime, field and value in turn.
_REGISTER = Script(
    _NOW
    + """
local hash, set, id, life = KEYS[1], KEYS[2], ARGV[1], tonumber(ARGV[2])
for i = 3, #ARGV, 2 do redis.call('HSET', hash, ARGV[i], ARGV[i + 1]) end
if redis.call('HGET', hash, 'registeredAt') == '0' then
  redis.call('HSET', hash, 'registeredAt', string.format('%.0f', now))
end
redis.call('HSET', hash, 'lastHeartbeat', string.format('%.0f', now))
redis.call('PEXPIRE', hash, life)
redis.call('ZADD', set, now + life, id)
return 1
"""
)
_HEARTBEAT = Script(
    _NOW
    + """
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
redis.call('HSET', KEYS[1], 'lastHeartbeat', string.format('%.0f', now))
redis.call('PEXPIRE', KEYS[1], ARGV[2])
redis.call('ZADD', KEYS[2], now + ARGV[2], ARGV[1])
return 1
"""
)
_DEREGISTER = Script(
    """
redis.call('DEL', KEYS[1])
redis.call('ZREM', KEYS[2], ARGV[1])
return 1
"""
)
# The hashes' names are made of the set's members, which are in the slot of KEYS[1].
_LIVING = Script(
    _NOW
    + """
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
local living = {}
for _, id in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  local hash = redis.call('HGETALL', ARGV[1] .. id)
  if #hash > 0 then living[#living + 1] = {id, hash} else redis.call('ZREM', KEYS[1], id) end
end
return {string.format('%.0f', now), living}
"""
)


class _Change(msgspec.Struct):
    """``gone``: the instance that said goodbye."""

    name: str
    gone: str | None = None


class RedisRegistry:
    """Implements ``Registry``. While Redis is away ``instances`` and ``services`` tell what was known
    last, and the same goes for one that has lost its memory: who vanishes before the end of its life
    without a goodbye is still there. Registering raises ``RedisAwayError``; the next heartbeat registers
    again."""

    def __init__(
        self,
        redis: Redis,
        channels: Channels,
        *,
        lifetime_ms: int = LIFETIME_MS,
        refresh_s: float = REFRESH_S,
    ) -> None:
        self._redis = redis
        self._channels = channels
        self._lifetime_ms = lifetime_ms
        self._refresh_s = refresh_s
        self._known: dict[str, tuple[Instance, ...]] = {}
        self._listeners: dict[str, list[Listener]] = {}
        # For each question under way: who said goodbye meanwhile, which its answer may not know.
        self._asking: dict[str, list[set[str]]] = {}
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begins to follow what is watched."""
        self._channels.listen(NAMES, self._heard, on_open=self._changed.set)
        self._task = asyncio.create_task(self._follow(), name="registry")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def register(self, instance: Instance) -> None:
        fields = msgspec.to_builtins(instance)
        del fields["lastHeartbeat"]
        words = [word for pair in fields.items() for word in pair]
        keys = [_hash(instance.name, instance.id), _set(instance.name)]
        await self._redis.run(_REGISTER, keys, [instance.id, self._lifetime_ms, *words])
        await self._redis.execute("SADD", NAMES, instance.name)
        await self._redis.execute("PUBLISH", NAMES, msgspec.json.encode(_Change(instance.name)))

    async def heartbeat(self, name: str, instance_id: str) -> bool:
        keys = [_hash(name, instance_id), _set(name)]
        return bool(await self._redis.run(_HEARTBEAT, keys, [instance_id, self._lifetime_ms]))

    async def knows(self, name: str, instance_id: str) -> bool:
        return bool(await self._redis.execute("EXISTS", _hash(name, instance_id)))

    async def deregister(self, name: str, instance_id: str) -> None:
        self._dismiss(name, instance_id)
        await self._redis.run(_DEREGISTER, [_hash(name, instance_id), _set(name)], [instance_id])
        await self._redis.execute("PUBLISH", NAMES, msgspec.json.encode(_Change(name, instance_id)))

    async def instances(self, name: str) -> Sequence[Instance]:
        gone: set[str] = set()
        asking = self._asking.setdefault(name, [])
        asking.append(gone)
        try:
            now, living = await self._redis.run(_LIVING, [_set(name)], [_hash(name, "")])
        except RedisAwayError:
            return self._known.get(name, ())
        finally:
            asking[:] = [other for other in asking if other is not gone]
        found = _understood(name, living)
        for id_ in gone:
            found.pop(id_, None)
        for vanished in self._known.get(name, ()):
            if vanished.lastHeartbeat + self._lifetime_ms > int(now):
                found.setdefault(vanished.id, vanished)
        self._learn(name, tuple(sorted(found.values(), key=lambda i: (i.registeredAt, i.id))))
        return self._known[name]

    async def services(self) -> dict[str, Sequence[Instance]]:
        try:
            names = sorted(name.decode() for name in await self._redis.execute("SMEMBERS", NAMES))
        except RedisAwayError:
            names = sorted(self._known)
        found = {name: await self.instances(name) for name in names}
        return {name: instances for name, instances in found.items() if instances}

    def watch(self, name: str, listener: Listener) -> Callable[[], None]:
        self._listeners.setdefault(name, []).append(listener)
        self._changed.set()

        def stop() -> None:
            listeners = self._listeners.get(name, [])
            if listener in listeners:
                listeners.remove(listener)

        return stop

    async def _follow(self) -> None:
        while True:
            self._changed.clear()
            for name in [name for name, listeners in self._listeners.items() if listeners]:
                try:
                    await self.instances(name)
                except Exception:  # noqa: BLE001 - what stands there is of no kind that we know: go on
                    _log.exception("instances not understood", service=name)
            try:
                async with asyncio.timeout(self._refresh_s):
                    await self._changed.wait()
            except TimeoutError:
                continue

    def _heard(self, message: bytes) -> None:
        change = msgspec.json.decode(message, type=_Change)
        if change.gone is not None:
            self._dismiss(change.name, change.gone)
        self._changed.set()

    def _dismiss(self, name: str, instance_id: str) -> None:
        for gone in self._asking.get(name, ()):
            gone.add(instance_id)
        known = self._known.get(name, ())
        self._learn(name, tuple(instance for instance in known if instance.id != instance_id))

    def _learn(self, name: str, living: tuple[Instance, ...]) -> None:
        """Heartbeats are no news to anybody who routes."""
        before = self._known.get(name)
        self._known[name] = living
        if before is not None and _places(before) == _places(living):
            return
        for listener in tuple(self._listeners.get(name, ())):
            listener(living)


def _hash(name: str, instance_id: str) -> str:
    return f"service:{{{name}}}:{instance_id}"


def _set(name: str) -> str:
    return f"services:{{{name}}}"


def _understood(name: str, living: Sequence[tuple[bytes, Sequence[bytes]]]) -> dict[str, Instance]:
    """By id. One that another release, or a hand, has written must not hide the others."""
    found = {}
    for id_, fields in living:
        try:
            found[id_.decode()] = _instance(fields)
        except (msgspec.ValidationError, UnicodeDecodeError) as error:
            _log.error("instance not understood", service=name, instance=repr(id_), reason=repr(error))
    return found


def _instance(fields: Sequence[bytes]) -> Instance:
    texts: dict[str, Any] = {fields[i].decode(): fields[i + 1].decode() for i in range(0, len(fields), 2)}
    return msgspec.convert(texts, Instance, strict=False)


def _places(instances: Sequence[Instance]) -> list[tuple[str, str, int, str]]:
    return [(i.id, i.host, i.port, i.status) for i in instances]
