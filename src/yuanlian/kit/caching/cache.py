"""A two-level cache whose keys cannot leave the tenant. Source: specification "缓存集成机制", DESIGN §4, §5.

The first level is this process's memory, the second a ``Store`` that all processes share; without one
(the embedded platform) everything else holds. A value is loaded once however many ask for it at once,
in however many processes.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections.abc import Awaitable, Callable
from functools import lru_cache, partial
from typing import Any, Generic, NamedTuple, TypeVar

import cachebox
import msgspec
import structlog

from yuanlian.kit.caching.keys import prefix
from yuanlian.kit.caching.store import Found, Store
from yuanlian.kit.errors import ServiceUnavailableError
from yuanlian.kit.tenancy.scope import current_tenant

T = TypeVar("T")
Load = Callable[[], Awaitable[T | None]]
_Key = tuple[str, str, int]
"""Prefix, id, generation. Not one text: that would be made, and its hash taken, for every hit."""

LOCAL_S = 60.0
"""Longest life in memory: what an invalidation that was never heard can cost."""
DEAF_S = 2.0
"""The same while invalidations cannot be heard at all."""
STALE_S = 600.0
NEGATIVE_S = 30.0
VERSION_S = 10.0
OWED_S = 0.5
JITTER = 0.1
FIRST_WAIT_S = 0.01
LONGEST_WAIT_S = 0.1

_log = structlog.get_logger("cache")


class _Entry(NamedTuple):
    value: Any
    fresh_until: float
    stale_until: float


class _Flight:
    """One load under way, and everybody who waits for it."""

    __slots__ = ("overtaken", "prefix", "task")

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.overtaken = False
        self.task: asyncio.Task[Any] | None = None


class Cache:
    """``size``: entries in memory, the least recently used go first."""

    def __init__(self, store: Store | None = None, *, size: int = 10_000) -> None:
        self.store = store
        self._local: cachebox.LRUCache[_Key, _Entry] = cachebox.LRUCache(size)
        self.recall: Callable[[_Key], _Entry | None] = self._local.get
        self._generations: dict[str, int] = {}
        self._generation = 0
        self._forgotten = 0
        self._versions: dict[str, tuple[int, float]] = {}
        self._flights: dict[_Key, _Flight] = {}
        self._hears = store is None
        self._owed: set[tuple[str, str | None]] = set()
        self._settling: asyncio.Task[None] | None = None
        if store is not None:
            store.listen(self._invalidated, self._opened, self._lost)

    def space(
        self,
        service: str,
        resource: str,
        type_: type[T],
        *,
        ttl_s: float,
        negative_s: float = NEGATIVE_S,
        stale_s: float = STALE_S,
        shared: bool = False,
    ) -> Space[T]:
        """The cached values of one resource, of ``type_`` (anything that msgspec encodes).

        ``ttl_s``: how long a value counts as fresh, give or take a tenth, so that what was stored
        together does not expire together. ``negative_s``: the same for "there is none". ``stale_s``: how
        long after that it is still served when its source fails. ``shared``: belongs to no tenant.
        """
        return Space(self, service, resource, type_, ttl_s, negative_s, stale_s, shared=shared)

    def __len__(self) -> int:
        return len(self._local)

    # --- the first level ----------------------------------------------------------------------

    def key(self, prefix: str, id_: str) -> _Key:
        return prefix, id_, self._generations.get(prefix, 0)

    def keep(self, key: _Key, value: Any, fresh_s: float, stale_s: float) -> None:
        fresh_s = min(fresh_s, LOCAL_S if self._hears else DEAF_S)
        now = time.monotonic()
        self._local[key] = _Entry(value, now + fresh_s, now + fresh_s + stale_s)

    def forget(self, prefix: str, id_: str | None) -> None:
        """In this process; loads under way began too early and are kept by nobody."""
        if id_ is not None:
            key = self.key(prefix, id_)
            self._local.pop(key, None)
            self._overtake(lambda flying, _: flying == key)
            return
        self._overtake(lambda _, flight: flight.prefix == prefix)
        self._versions.pop(prefix, None)
        self._forgotten += 1
        # Numbers are never used twice, so that forgetting them all below brings nothing back.
        self._generation += 1
        self._generations[prefix] = self._generation
        if len(self._generations) > 100_000:
            self.flush()

    def flush(self) -> None:
        self._overtake(lambda *_: True)
        self._local.clear()
        self._generations.clear()
        self._versions.clear()
        self._forgotten += 1

    def _overtake(self, which: Callable[[_Key, _Flight], bool]) -> None:
        for key, flight in [item for item in self._flights.items() if which(*item)]:
            flight.overtaken = True
            del self._flights[key]

    # --- what other processes say -------------------------------------------------------------

    def _invalidated(self, prefix: str, id_: str | None) -> None:
        self.forget(prefix, id_)

    def _opened(self) -> None:
        self.flush()  # what was said before this moment was not heard
        self._hears = True

    def _lost(self) -> None:
        self.flush()
        self._hears = False

    async def invalidate(self, prefix: str, id_: str | None) -> None:
        """Here and everywhere. The change is committed already, so a store that is away is no reason to
        fail: it is told when it is back."""
        self.forget(prefix, id_)
        if self.store is None:
            return
        try:
            if id_ is None:
                await self.store.drop_all(prefix)
            else:
                # Asked for, not remembered: a generation that another process has just begun may hold the
                # value already, and would keep it.
                await self.store.drop(prefix, id_, await self.store.version(prefix))
        except ServiceUnavailableError:
            self._owed.add((prefix, id_))
            if self._settling is None or self._settling.done():
                self._settling = asyncio.ensure_future(self._settle())

    async def _settle(self) -> None:
        while self._owed:
            await asyncio.sleep(OWED_S)
            owed, self._owed = self._owed, set()
            for space, id_ in owed:
                await self.invalidate(space, id_)

    # --- loading ------------------------------------------------------------------------------

    async def once(self, key: _Key, prefix: str, work: Callable[[_Flight], Awaitable[T]]) -> T:
        """Everybody who asks for ``key`` while it is loaded gets what that load brings."""
        flight = self._flights.get(key)
        if flight is None:
            flight = self._flights[key] = _Flight(prefix)
            flight.task = asyncio.ensure_future(work(flight))
            flight.task.add_done_callback(lambda _: self._land(key, flight))
        assert flight.task is not None
        # One who gives up must not take the value from the others.
        result: T = await asyncio.shield(flight.task)
        return result

    def _land(self, key: _Key, flight: _Flight) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]
        if flight.task is not None and not flight.task.cancelled():
            flight.task.exception()  # everybody may have given up; then nobody else looks at it

    async def version(self, store: Store, prefix: str) -> int:
        """Remembered while its change would be heard."""
        known = self._versions.get(prefix)
        now = time.monotonic()
        if known is not None and known[1] > now:
            return known[0]
        forgotten = self._forgotten
        version = await store.version(prefix)
        # One that was asked for before a new generation was heard of may be of the old one.
        if self._hears and forgotten == self._forgotten:
            self._versions[prefix] = version, now + VERSION_S
        return version


class Space(Generic[T]):
    """See ``Cache.space``. Keys are made of the tenant scope of the caller: there is no parameter that
    could name another one."""

    def __init__(
        self,
        cache: Cache,
        service: str,
        resource: str,
        type_: type[T],
        ttl_s: float,
        negative_s: float,
        stale_s: float,
        *,
        shared: bool,
    ) -> None:
        self._cache = cache
        self._resource = resource
        # By tenant; a key of one argument is the argument itself.
        self._prefix_of = lru_cache(10_000)(partial(prefix, service, resource))
        self._decoder: msgspec.msgpack.Decoder[T | None] = msgspec.msgpack.Decoder(type_ | None)
        self._ttl_s = ttl_s
        self._negative_s = negative_s
        self._stale_s = stale_s
        self._shared = shared

    async def get(self, id_: str, load: Load[T]) -> T | None:
        """The value; None when ``load`` says that there is none.

        Raises:
            TenantRequiredError: outside a tenant's scope. Whatever ``load`` raises, when nothing older
            can be served instead.
        """
        space = self._prefix()
        key = self._cache.key(space, id_)
        entry = self._cache.recall(key)
        if entry is not None and entry.fresh_until > time.monotonic():
            value: T | None = entry.value
            return value
        return await self._cache.once(
            key, space, lambda flight: self._find(flight, key, space, id_, load, entry)
        )

    async def drop(self, id_: str) -> None:
        """Forgets one value everywhere; call it after the change is committed."""
        await self._cache.invalidate(self._prefix(), id_)

    async def drop_all(self) -> None:
        """Forgets the tenant's values of this resource everywhere; costs the same for one and for many."""
        await self._cache.invalidate(self._prefix(), None)

    def _prefix(self) -> str:
        return self._prefix_of(None if self._shared else current_tenant())

    async def _find(
        self, flight: _Flight, key: _Key, space: str, id_: str, load: Load[T], old: _Entry | None
    ) -> T | None:
        fresh_s = self._ttl_s * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 - only spreads
        try:
            if self._cache.store is None:
                value, fresh = await load(), True
            else:
                value, fresh = await self._through(self._cache.store, space, id_, load, fresh_s)
        except Exception:
            if old is None or old.stale_until < time.monotonic():
                raise
            _log.warning("source failed, an older value is served", key=f"{space}:{id_}", exc_info=True)
            stale: T | None = old.value
            return stale
        if fresh and not flight.overtaken:
            kept_s = fresh_s if value is not None else min(fresh_s, self._negative_s)
            self._cache.keep(key, value, kept_s, self._stale_s)
        return value

    async def _through(
        self, store: Store, space: str, id_: str, load: Load[T], fresh_s: float
    ) -> tuple[T | None, bool]:
        """From the store, or loaded by whoever has the claim, or by us when the store is away. With it:
        whether it is fresh, or an older value because ``load`` failed."""
        token = secrets.token_hex(8)
        wait_s = FIRST_WAIT_S
        try:
            version = await self._cache.version(store, space)
            while True:
                found = await store.find(space, id_, version)
                known, older = self._decoded(found)
                if known and found is not None and found.fresh:
                    return older, True
                if await store.claim(space, id_, version, token):
                    break
                await asyncio.sleep(wait_s)
                wait_s = min(wait_s * 1.5, LONGEST_WAIT_S)
        except ServiceUnavailableError:
            return await load(), True
        try:
            value = await load()
        except Exception:
            await self._quietly(store.release(space, id_, version, token))
            if not known:
                raise
            _log.warning("source failed, an older value is served", key=f"{space}:{id_}", exc_info=True)
            return older, False
        blob = msgspec.msgpack.encode(value)
        kept_s = fresh_s if value is not None else min(fresh_s, self._negative_s)
        put = store.put(space, id_, version, token, blob, fresh_s=kept_s, stale_s=self._stale_s)
        await self._quietly(put)
        return value, True

    def _decoded(self, found: Found | None) -> tuple[bool, T | None]:
        """Whether there is a value that this release understands (another may have stored it), and it."""
        if found is None:
            return False, None
        try:
            return True, self._decoder.decode(found.blob)
        except msgspec.MsgspecError:
            return False, None

    async def _quietly(self, told: Awaitable[Any]) -> None:
        """The value is there; that the store did not hear of it costs another load, no more."""
        try:
            await told
        except ServiceUnavailableError:
            _log.warning("the cache's store is away", space=self._resource)
