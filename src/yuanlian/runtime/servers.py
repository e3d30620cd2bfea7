"""Asking the servers that the settings name, before anything is started, and from ``yuanlian check``."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence

import structlog

from yuanlian.kit.clock import SystemClock
from yuanlian.kit.database.database import DatabaseRefusedError
from yuanlian.kit.redis_needs import Needs
from yuanlian.runtime.host_names import UnknownHostError, look_up
from yuanlian.runtime.refusals import Refusal
from yuanlian.runtime.settings import PREFIX, Settings, origins

ANSWER_S = 3.5
"""Until a server has let us in. All are asked at once; whoever waits for the answer waits no longer than five
seconds, and Python takes its part of them."""
WORK_S = 15.0
"""What a server that has let us in may take for all that it is asked: several dozen questions of RabbitMQ."""
REDIS_COMMAND_S = ANSWER_S * 0.9
"""So that the node of a cluster that is silent can be named."""
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
USED_BY_GATEWAYS = ("cache_url", "registry_url")
"""A gateway starts while what only services use is away."""
_SCHEMES = {
    "database_url": ("mysql", "mariadb"),
    "bus_url": ("amqp",),
    "cache_url": ("redis",),
    "registry_url": ("redis",),
}
_PASSWORD = re.compile(r"(://[^:/@\s]*:)\S*@")  # to the last @, which some take for part of the password
_IN_QUERY = re.compile(r"([?&][\w-]*password=)[^&\s]*", re.IGNORECASE)  # redis-py takes it from there, too

_log = structlog.get_logger("runtime")


class ServerRefusedError(Refusal):
    """Servers that settings name cannot be used; a line for each."""


class UnfitServerError(Exception):
    """What is wrong with one, and what to do; without secrets. ``away``: nobody answers there."""

    def __init__(self, reason: str, *, away: bool = False) -> None:
        super().__init__(reason)
        self.away = away


LetIn = Callable[[], None]
"""To be called when the server has taken us for who we are."""
Ask = Callable[[LetIn], Awaitable[str]]


def masked(text: str) -> str:
    """The URLs in a text, without their passwords."""
    return _PASSWORD.sub(rf"\1{MASK}@", _IN_QUERY.sub(rf"\1{MASK}", text))


def told(settings: Settings, name: str, reason: object, options: Collection[str] = ()) -> str:
    """A finding about what a setting names, with where the setting came from. ``options``: those given on
    the command line."""
    value = getattr(settings, name)
    # A text that is no URL may be a password as a whole.
    shown = masked(value) if isinstance(value, str) and "://" in value else MASK
    return f"{PREFIX}{name.upper()} (from: {origins(options)[name]}) {shown}: {reason}"


def asked(settings: Settings) -> Sequence[str]:
    """The settings that name a server of their own."""
    return [
        name
        for name, schemes in _SCHEMES.items()
        if (getattr(settings, name) or "").partition("://")[0].startswith(schemes)
    ]


async def ask(settings: Settings, names: Iterable[str]) -> Mapping[str, str | UnfitServerError]:
    """All at once: what each is, or what is wrong with it."""
    # Drivers are imported before anybody's time begins.
    asks = {name: _ASKS[name](settings) for name in names}
    answers = await asyncio.gather(*(_in_time(one, getattr(settings, name)) for name, one in asks.items()))
    return dict(zip(asks, answers, strict=True))


async def refuse_unfit(settings: Settings, names: Collection[str] = tuple(_SCHEMES)) -> None:
    """Before a start, of what the process uses. No service serves without its database and its bus;
    without Redis much goes on, so one that is away is only complained of, loudly.

    Raises:
        ServerRefusedError: names every setting, where it came from, and what to do.
    """
    refused = []
    for name, answer in (await ask(settings, [one for one in asked(settings) if one in names])).items():
        if not isinstance(answer, UnfitServerError):
            continue
        if answer.away and name in USED_BY_GATEWAYS:
            _log.error("a server is away; starting without it", reason=told(settings, name, answer))
        else:
            refused.append(told(settings, name, answer))
    if refused:
        raise ServerRefusedError("\n".join(refused))


async def _in_time(one: Ask, url: str) -> str | UnfitServerError:
    late = f"no address of its host within {ANSWER_S:g} s: does the name server answer?"

    def let_in() -> None:
        nonlocal late
        late = f"it answers, but too slowly: not done within {WORK_S:g} s"
        limit.reschedule(asyncio.get_running_loop().time() + WORK_S)

    try:
        async with asyncio.timeout(ANSWER_S) as limit:
            await look_up(url)
            late = f"no answer within {ANSWER_S:g} s: are host and port right?"
            return await one(let_in)
    except TimeoutError:
        return UnfitServerError(late, away=True)
    except UnknownHostError as error:
        return UnfitServerError(str(error), away=True)
    except UnfitServerError as error:
        return error


def _ask_database(settings: Settings) -> Ask:
    from yuanlian.kit.database.mysql import MysqlDatabase  # its libraries only where it is used
    from yuanlian.kit.database.mysql_grants import SERVING
    from yuanlian.runtime.schema import HEAD, SchemaError, examine, outlook

    async def look(let_in: LetIn) -> str:
        try:
            database = MysqlDatabase(settings.database_url or "")
            checked = await database.check(examine, within_s=ANSWER_S, let_in=let_in)
        except (ValueError, DatabaseRefusedError, SchemaError) as error:
            raise UnfitServerError(str(error)) from None
        for warning in checked.warnings:
            _log.warning("the database server's settings", warning=warning)
        # Who brings the schema up to date may be another user.
        if checked.lacks and (checked.found != HEAD or set(checked.lacks) & set(SERVING)):
            lacks = ", ".join(sorted(checked.lacks))
            raise UnfitServerError(
                f"{database}: the user lacks {lacks}: GRANT ALL ON the database TO the user"
            )
        return f"{database} answers ({checked.version}), {outlook(checked.found)}"

    return look


def _ask_bus(settings: Settings) -> Ask:
    from yuanlian.contracts.queues import QUEUES
    from yuanlian.kit.messaging.bus import BusError
    from yuanlian.kit.messaging.rabbitmq import RabbitMqBus  # its libraries only where it is used

    async def look(let_in: LetIn) -> str:
        try:
            bus = RabbitMqBus(settings.bus_url, SystemClock(), bindings=QUEUES, name="check")
            return await bus.check(let_in)
        except (ValueError, BusError) as error:
            raise UnfitServerError(str(error)) from None

    return look


def _ask_cache(settings: Settings) -> Ask:
    return _ask_redis(settings.cache_url, CACHE_NEEDS)


def _ask_registry(settings: Settings) -> Ask:
    return _ask_redis(settings.registry_url, REGISTRY_NEEDS)


def _ask_redis(url: str, needs: Needs) -> Ask:
    from yuanlian.kit.redis_check import RedisRefusedError, check  # its libraries only where it is used

    async def look(let_in: LetIn) -> str:
        try:
            return await check(url, needs, timeout_s=REDIS_COMMAND_S, let_in=let_in)
        except ValueError as error:
            raise UnfitServerError(str(error)) from None
        except RedisRefusedError as error:
            raise UnfitServerError(str(error), away=error.away) from None

    return look


_ASKS: Mapping[str, Callable[[Settings], Ask]] = {
    "database_url": _ask_database,
    "bus_url": _ask_bus,
    "cache_url": _ask_cache,
    "registry_url": _ask_registry,
}
