"""Ending a user's connections in every process: told over Redis, and owed while it is away."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

import msgspec
import structlog

from yuanlian.kit.channels import LONGEST_PAUSE_S, Channels
from yuanlian.kit.redis import Redis, RedisAwayError

CLOSING = "realtime.close"
RETRY_S = 0.5
MOST_OWED = 10_000

_log = structlog.get_logger("realtime")


class Closing(msgspec.Struct, array_like=True):
    tenant_id: str
    user_id: str
    code: int


class Closings:
    """``close_here`` ends the user's connections in this process; it is called for what any process closes,
    and once, without waiting, for what this one closes while Redis is away. What is owed to the others is
    told when it is back. A closing owed twice is told once; beyond ``MOST_OWED`` the oldest are given up,
    and a warning says how many."""

    def __init__(self, redis: Redis, channels: Channels, close_here: Callable[[Closing], None]) -> None:
        self._redis = redis
        self._channels = channels
        self._close_here = close_here
        self._owed: dict[tuple[str, str], Closing] = {}
        self._owing = asyncio.Event()
        self._given_up = 0
        self._away = False
        self._task: asyncio.Task[None] | None = None

    @property
    def owed(self) -> int:
        return len(self._owed)

    async def start(self) -> None:
        self._channels.listen(CLOSING, self._heard)
        self._task = asyncio.create_task(self._tell_all(), name="realtime")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        self._admit()

    def close(self, closing: Closing) -> None:
        key = (closing.tenant_id, closing.user_id)
        if key not in self._owed and len(self._owed) >= MOST_OWED:
            del self._owed[next(iter(self._owed))]
            self._given_up += 1
        self._owed[key] = closing
        self._owing.set()
        if self._away:
            self._close_here(closing)

    def _heard(self, message: bytes) -> None:
        self._close_here(msgspec.json.decode(message, type=Closing))

    async def _tell_all(self) -> None:
        while True:
            await self._owing.wait()
            key, closing = next(iter(self._owed.items()))
            try:
                await self._redis.execute("PUBLISH", CLOSING, msgspec.json.encode(closing))
                self._away = False
            except RedisAwayError:
                self._close_all_here()
                await self._all_back()
                continue
            except Exception:  # noqa: BLE001 - one that cannot be told: loud, and not the end of telling
                _log.exception("a closing cannot be told to other processes", tenant_id=closing.tenant_id)
                self._close_here(closing)
            if self._owed.get(key) is closing:  # else it is owed again since
                del self._owed[key]
            if not self._owed:
                self._owing.clear()
            self._admit()

    def _close_all_here(self) -> None:
        # Once: who comes back while Redis is away does so with what they may see now.
        if not self._away:
            self._away = True
            for closing in tuple(self._owed.values()):
                self._close_here(closing)

    async def _all_back(self) -> None:
        """Returns when Redis answers and the others have had the time to listen again: what is published
        before that they do not hear."""
        while True:
            await asyncio.sleep(RETRY_S)
            with contextlib.suppress(RedisAwayError):
                await self._redis.execute("TIME")  # a server whose disk is full refuses PING, not PUBLISH
                break
        await asyncio.sleep(2 * LONGEST_PAUSE_S)

    def _admit(self) -> None:
        if self._given_up:
            _log.warning("too many closings while Redis was away: some are not told", closings=self._given_up)
            self._given_up = 0
