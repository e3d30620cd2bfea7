"""Rate limits that all processes share, in Redis."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

import structlog

from yuanlian.kit.redis import Redis, RedisAwayError
from yuanlian.kit.redis_scripts import Script
from yuanlian.kit.resilience.limiter import Decision, RateLimiter

MOST_AT_ONCE = 500

_log = structlog.get_logger("limits")

# GCRA: KEYS[1] holds the theoretical arrival time of the next request in microseconds of the server's
# clock. Answers allowed, requests left, microseconds until full, microseconds until the next may come.
_HIT = Script(
    before="""
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
""",
    source="""
local limit, window = tonumber(ARGV[1]), tonumber(ARGV[2]) * 1000
local interval = window / limit
local tat = tonumber(redis.call('GET', KEYS[1]) or '0')
if tat < now then tat = now end
local free = (now + window - tat) / interval
if free < 1 - 1e-9 then
  return {0, 0, math.ceil(tat - now), math.ceil((1 - free) * interval)}
end
tat = tat + interval
redis.call('SET', KEYS[1], string.format('%.3f', tat), 'PX', math.ceil((tat - now) / 1000) + 1)
return {1, math.floor(free - 1 + 1e-9), math.ceil(tat - now), 0}
""",
)


class _Hit(NamedTuple):
    key: str
    limit: int
    window_ms: int
    answer: asyncio.Future[Decision | None]


class RedisRateLimiter:
    """Implements ``RateLimiter``. Hits of one turn of the event loop, and those that come while an
    earlier batch is under way, share a round trip. While Redis is away each process counts for itself
    (``fallback``): too generous by the number of processes, rather than closed."""

    def __init__(self, redis: Redis, fallback: RateLimiter, prefix: str = "limit") -> None:
        self._redis = redis
        self._fallback = fallback
        self._prefix = prefix
        self._waiting: list[_Hit] = []
        self._worker: asyncio.Task[None] | None = None

    async def hit(self, key: str, limit: int, window_ms: int) -> Decision:
        answer: asyncio.Future[Decision | None] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Hit(key, limit, window_ms, answer))
        if self._worker is None:
            self._worker = asyncio.create_task(self._drain(), name="limits")
        decision = await answer
        return decision or await self._fallback.hit(key, limit, window_ms)

    def hit_at_once(self, key: str, limit: int, window_ms: int) -> None:
        del key, limit, window_ms  # Redis has to be asked

    async def _drain(self) -> None:
        try:
            while self._waiting:
                hits, self._waiting = self._waiting[:MOST_AT_ONCE], self._waiting[MOST_AT_ONCE:]
                await self._ask(hits)
        finally:
            self._worker = None

    async def _ask(self, hits: list[_Hit]) -> None:
        calls = [([f"{self._prefix}:{hit.key}"], [hit.limit, hit.window_ms]) for hit in hits]
        try:
            answers = await self._redis.run_many(_HIT, calls)
        except RedisAwayError:
            answers = [None] * len(hits)
        except Exception:  # noqa: BLE001 - whatever it was, who waits here is a request: it gets an answer
            _log.exception("limits not counted")
            answers = [None] * len(hits)
        for hit, answer in zip(hits, answers, strict=True):
            if hit.answer.done():
                continue
            if isinstance(answer, Exception):
                _log.warning("limit not counted", error=str(answer))
            known = isinstance(answer, list)
            hit.answer.set_result(_decision(hit.limit, answer) if known else None)


def _decision(limit: int, answer: list[int]) -> Decision:
    allowed, remaining, reset_us, wait_us = answer
    return Decision(bool(allowed), limit, remaining, _seconds(reset_us), _seconds(wait_us))


def _seconds(us: int) -> int:
    return -(-us // 1_000_000)
