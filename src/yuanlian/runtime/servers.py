"""Asking the servers that the settings name, before anything is started, and from ``yuanlian check``."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping

import structlog

from yuanlian.kit.clock import SystemClock
from yuanlian.kit.database.database import DatabaseRefusedError, DatabaseUnavailableError
from yuanlian.kit.redis_needs import Needs
from yuanlian.runtime.refusals import Refusal
from yuanlian.runtime.settings import PREFIX, Settings, origins

ANSWER_S = 4.5
"""All are asked at once; whoever waits for the answer waits no longer than five seconds."""
MASK = "********"
CACHE_NEEDS = Needs(
    keys={
        "limit:*": ("GET", "SET"),
        "realtime:*": ("HGET", "HSET", "HINCRBY", "XADD", "XRANGE", "EXPIRE", "DEL"),
        "tenant:*": ("GET", "SET", "PTTL", "DEL"),
        "generation:*": ("GET", "GETEX", "SET"),
        "lock:*": ("GET", "SET", "DEL"),
    },
    channels=("yuanlian", "realtime:*", "realtime.close", "cache.invalidated", "revoked", "tenants.changed"),
)
"""Limits, live events, the cache (only the tenant service has one), and what processes tell each other."""
REGISTRY_NEEDS = Needs(
    keys={
        "service:*": ("EXISTS", "HGET", "HGETALL", "HSET", "PEXPIRE", "DEL"),
        "services*": ("ZADD", "ZRANGE", "ZREM", "ZREMRANGEBYSCORE", "SADD", "SMEMBERS", "DEL"),
    },
    channels=("yuanlian", "services"),
)
_PASSWORD = re.compile(r"(://[^:/@\s]*:)\S*@")  # to the last @, which some take for part of the password

_log = structlog.get_logger("runtime")


class ServerRefusedError(Refusal):
    """A server that a setting names cannot be used."""


class UnfitServerError(Exception):
    """What is wrong with one, and what to do; without secrets."""


def masked(text: str) -> str:
    """The URLs in a text, without their passwords."""
    return _PASSWORD.sub(rf"\1{MASK}@", text)


def asked(settings: Settings) -> Mapping[str, Callable[[Settings], Awaitable[str]]]:
    """The settings that name a server of their own, each with how to ask it: what it is, or an
    ``UnfitServerError``."""
    found: dict[str, Callable[[Settings], Awaitable[str]]] = {}
    if (settings.database_url or "").partition("://")[0].partition("+")[0] in ("mysql", "mariadb"):
        found["database_url"] = _ask_database
    if settings.bus_url.startswith("amqp"):
        found["bus_url"] = _ask_bus
    for name in ("cache_url", "registry_url"):
        if getattr(settings, name).startswith("redis"):
            found[name] = _ask_cache if name == "cache_url" else _ask_registry
    return found


async def ask(settings: Settings, name: str) -> str:
    """Raises:
    UnfitServerError: also when there is no answer in time.
    """
    try:
        async with asyncio.timeout(ANSWER_S):
            return await asked(settings)[name](settings)
    except TimeoutError:
        raise UnfitServerError(f"no answer within {ANSWER_S:g} s: are host and port right?") from None


async def refuse_unfit(settings: Settings) -> None:
    """Before a start. Nothing serves without its database and its bus; without Redis much does, so one
    that cannot be reached is only complained of, loudly.

    Raises:
        ServerRefusedError: names the setting, where it came from, and what to do.
    """
    names = list(asked(settings))
    answers = await asyncio.gather(*(ask(settings, name) for name in names), return_exceptions=True)
    came_from = origins(())
    for name, answer in zip(names, answers, strict=True):
        if not isinstance(answer, BaseException):
            continue
        if not isinstance(answer, UnfitServerError):
            raise answer
        told = f"{PREFIX}{name.upper()} (from: {came_from[name]}) {masked(getattr(settings, name))}: {answer}"
        if name in ("cache_url", "registry_url") and "nothing answers" in str(answer):
            _log.error("a server is away; starting without it", reason=told)
        else:
            raise ServerRefusedError(told)


async def _ask_database(settings: Settings) -> str:
    from yuanlian.kit.database.mysql import MysqlDatabase  # its libraries only where it is used

    def look() -> str:
        database = MysqlDatabase(settings.database_url or "")
        version, warnings = database.check()
        for warning in warnings:
            _log.warning("the database server's settings", warning=warning)
        return version

    try:
        return await asyncio.to_thread(look)
    except (ValueError, DatabaseRefusedError, DatabaseUnavailableError) as error:
        raise UnfitServerError(str(error)) from None


async def _ask_bus(settings: Settings) -> str:
    from yuanlian.contracts.queues import QUEUES
    from yuanlian.kit.messaging.bus import BusError
    from yuanlian.kit.messaging.rabbitmq import RabbitMqBus  # its libraries only where it is used

    try:
        bus = RabbitMqBus(settings.bus_url, SystemClock(), bindings=QUEUES, name="check")
        try:
            await bus.ping()
        finally:
            await bus.stop()
    except (ValueError, BusError) as error:
        raise UnfitServerError(str(error)) from None
    return f"RabbitMQ at {bus.address}"


async def _ask_cache(settings: Settings) -> str:
    return await _ask_redis(settings.cache_url, CACHE_NEEDS)


async def _ask_registry(settings: Settings) -> str:
    return await _ask_redis(settings.registry_url, REGISTRY_NEEDS)


async def _ask_redis(url: str, needs: Needs) -> str:
    from yuanlian.kit.redis import Redis, RedisRefusedError  # its libraries only where it is used

    try:
        redis = Redis(url)
        try:
            return await redis.check(needs)
        finally:
            await redis.close()
    except (ValueError, RedisRefusedError) as error:
        raise UnfitServerError(str(error)) from None
