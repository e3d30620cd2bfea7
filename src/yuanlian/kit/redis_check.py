"""Asking a Redis, or every master of a cluster, whether it will do, before anything rests on it. Nothing is
changed there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from redis import exceptions
from redis.utils import str_if_bytes

from yuanlian.kit.redis import AWAY_ERRORS, Listener, RedisAwayError, connection, without_cluster
from yuanlian.kit.redis_needs import Needs, Probe, listening, opening, probes

OLDEST_VERSION = (7, 0)
CHANNEL = "yuanlian"
SLOTS = 16384
NODES_S = 1.0
"""For the others of a cluster, however long the first has taken."""
WORK_S = 60.0
"""For one answer of those that have let us in, unless the caller ends it sooner."""

Version = tuple[int, ...]


class RedisRefusedError(Exception):
    """The server cannot be used: address, password, permission, version. The message has no secret.
    ``away``: nobody answers there."""

    def __init__(self, reason: str, *, away: bool = False) -> None:
        super().__init__(reason)
        self.away = away


async def check(
    url: str, needs: Needs, *, timeout_s: float = 1.0, let_in: Callable[[], None] = lambda: None
) -> str:
    """The version, when the server and every other master of a cluster let us do what we have to. Until
    they have taken the password they are waited for ``timeout_s`` altogether, the others of a cluster at
    least for a second of it; ``let_in`` is called when the first has. The rest takes as long as the caller
    gives it.

    Raises:
        RedisRefusedError: it does not, or nobody answers; says what to do.
        ValueError: this is no URL of a Redis.
    """
    address, is_cluster = without_cluster(url)
    now = asyncio.get_running_loop().time
    end = now() + timeout_s
    try:
        versions = [await _opened(address, timeout_s, is_cluster=is_cluster)]
        let_in()
        nodes: Sequence[str] = [address]
        if is_cluster:
            nodes = await _masters(address, max(end - now(), NODES_S))
            left_s = max(end - now(), NODES_S)
            versions = await asyncio.gather(*(_node_opened(node, left_s) for node in nodes))
        told = await asyncio.gather(*(_lacking(node, needs) for node in nodes))
    except (exceptions.AuthenticationError, exceptions.AuthenticationWrongNumberOfArgsError):
        raise RedisRefusedError("the server wants another user or password") from None
    except exceptions.RedisClusterException as error:
        raise RedisRefusedError(
            f"no cluster answers there; for a server that is none leave ?cluster=true away ({error})"
        ) from None
    except (exceptions.InvalidResponse, exceptions.ResponseError) as error:
        raise RedisRefusedError(_explained(str(error))) from None
    except (*AWAY_ERRORS, RedisAwayError) as error:
        raise RedisRefusedError(f"nothing answers there, is it running? ({_why(error)})", away=True) from None
    oldest = min(versions)
    if oldest < OLDEST_VERSION:
        raise RedisRefusedError(f"version {_dotted(oldest)} is older than {_dotted(OLDEST_VERSION)}")
    _refuse(rule for rules in told for rule in rules)
    return f"Redis {_dotted(oldest)}"


async def _opened(url: str, timeout_s: float, *, is_cluster: bool) -> Version:
    """Raises:
    RedisRefusedError: what comes before everything else is not allowed.
    """
    client = connection(url, timeout_s)
    try:
        async with asyncio.timeout(timeout_s):
            _refuse(await _missing(client, opening(cluster=is_cluster)))
            return _version(await client.info("server"))
    finally:
        await client.aclose()


async def _node_opened(url: str, timeout_s: float) -> Version:
    """Raises:
    RedisRefusedError: names the node.
    """
    node = urlsplit(url).netloc.rpartition("@")[2]
    try:
        return await _opened(url, timeout_s, is_cluster=True)
    except exceptions.AuthenticationError:
        raise RedisRefusedError(f"its node {node} wants another user or password") from None
    except RedisRefusedError as error:
        raise RedisRefusedError(f"its node {node}: {error}") from None
    except AWAY_ERRORS as error:
        reason = f"its node {node} does not answer: is that the address at which we reach it? ({_why(error)})"
        raise RedisRefusedError(reason, away=True) from None


async def _masters(url: str, timeout_s: float) -> Sequence[str]:
    """As the server announces them. The driver would find them, too, and at once ask one of them for more.

    Raises:
        RedisRefusedError: they do not serve all slots.
    """
    client = connection(url, timeout_s)
    try:
        async with asyncio.timeout(timeout_s):
            answer = await client.execute_command("CLUSTER SLOTS")
    except exceptions.ResponseError as error:
        raise exceptions.RedisClusterException(str(error)) from None
    finally:
        await client.aclose()
    ranges = {(begin, end): (str_if_bytes(host), port) for begin, end, (host, port, *_), *_ in answer}
    if sum(end - begin + 1 for begin, end in ranges) < SLOTS:
        reason = f"the cluster does not serve all its {SLOTS} slots: put it together, or mend it"
        raise RedisRefusedError(reason, away=True)  # the driver takes no command then
    own = urlsplit(url).hostname or ""  # one that does not know its own address leaves it out
    return [_at(url, host or own, port) for host, port in sorted(set(ranges.values()))]


def _at(url: str, host: str, port: int) -> str:
    parts = urlsplit(url)
    account, at, _ = parts.netloc.rpartition("@")
    place = f"[{host}]" if ":" in host else host
    return urlunsplit((parts.scheme, f"{account}{at}{place}:{port}", "", parts.query, ""))


async def _lacking(url: str, needs: Needs) -> list[str]:
    """The ACL rules that the user lacks there."""
    client = connection(url, WORK_S)
    listener = Listener(client, WORK_S)
    try:
        missing = await _missing(client, probes(needs, CHANNEL))
        for probe in listening(needs):
            begins, channel = probe.command[0] == "SUBSCRIBE", str(probe.command[1])
            try:
                await (listener.subscribe if begins else listener.unsubscribe)([channel])
                await listener.next(WORK_S)
            except exceptions.ResponseError as error:
                missing.append(probe.lacks(str(error)) or "")
    finally:
        await listener.close()
    return missing


async def _missing(client: Any, asked: Iterable[Probe]) -> list[str]:
    said = list(asked)
    async with client.pipeline(transaction=False) as pipe:
        for probe in said:
            pipe.execute_command(*probe.command)
        answers = await pipe.execute(raise_on_error=False)
    return [p.lacks(str(a)) or "" for p, a in zip(said, answers, strict=True) if isinstance(a, Exception)]


def _refuse(missing: Iterable[str]) -> None:
    rules = " ".join(dict.fromkeys(rule for rule in missing if rule))
    if rules:
        raise RedisRefusedError(f"the user may not do all it has to, it lacks (ACL SETUSER): {rules}")


def _why(error: BaseException) -> str:
    return str(error.__cause__ or error) or "no answer in time"


def _version(answer: Any) -> Version:
    return tuple(int(part) for part in str(answer["redis_version"]).split(".")[:2])


def _dotted(version: Iterable[int]) -> str:
    return ".".join(str(part) for part in version)


def _explained(error: str) -> str:
    if "NOAUTH" in error or "HELLO must be called" in error or "Authentication required" in error:
        return "the server wants a password: redis://:PASSWORD@HOST:PORT/0"
    if "Protocol Error" in error:
        return "what answers there is no Redis"
    return error
