"""Redis, alone or as a cluster. Its driver is imported here and in ``redis_check``, nowhere else.

What is kept here can be made again, so nobody waits long for it: a server that does not answer is left
alone for a moment, and those who ask meanwhile hear so at once and go on without.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Iterable, Sequence
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import structlog
from redis import exceptions
from redis.asyncio import Redis as _Client
from redis.asyncio import RedisCluster as _Cluster
from redis.asyncio.client import PubSub
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from yuanlian.kit.errors import DependencyAwayError
from yuanlian.kit.i18n import Text
from yuanlian.kit.redis_scripts import Call, Command, Script, Source, Word, as_one

MOST_COMMANDS = 64
"""Under way at once, and so connections: each has one to itself."""
_log = structlog.get_logger("redis")
_AWAY = Text("缓存服务暂不可用", "The cache service is not available")
# A wrong password or a full memory is no reason to try the next server, but as little an answer.
AWAY_ERRORS = (
    exceptions.ConnectionError,
    exceptions.TimeoutError,
    exceptions.ClusterError,
    exceptions.RedisClusterException,
    exceptions.OutOfMemoryError,
    exceptions.ReadOnlyError,
    OSError,
)


class RedisAwayError(DependencyAwayError):
    """Nothing is known: the command may or may not have been carried out."""

    text = _AWAY


class Notice(NamedTuple):
    """``kind``: ``message``, or that a channel was begun or ended (``subscribe``, ``unsubscribe``)."""

    kind: str
    channel: str
    data: Any


class Redis:
    """``url``: ``redis://[:password@]host:port/db``, ``rediss://`` for TLS; ``?cluster=true`` when the
    address is one node of a cluster. ``timeout_s``: for one command. ``rest_s``: how long a server that
    failed is not asked again."""

    def __init__(self, url: str, *, timeout_s: float = 1.0, rest_s: float = 0.5) -> None:
        self._url, self._is_cluster = without_cluster(url)
        self._timeout_s = timeout_s
        self._rest_s = rest_s
        self._resting_until = 0.0
        self._slots = asyncio.Semaphore(MOST_COMMANDS)
        # Time is kept here: with a time-out of its own the driver waits through asyncio.wait_for, which
        # in Python 3.11 loses a cancellation that comes as the wait ends, and tasks could not be stopped.
        options: dict[str, Any] = {"socket_timeout": None, "socket_connect_timeout": timeout_s}
        self._client: Any
        if self._is_cluster:
            self._client = _Cluster.from_url(self._url, **options)
        else:
            self._client = _Client.from_url(self._url, retry=Retry(NoBackoff(), 1), **options)

    async def execute(self, *command: Word) -> Any:
        """The answer as the server gives it, strings as bytes.

        Raises:
            RedisAwayError: it gave none.
        """
        return await self._guarded(self._client.execute_command(*command))

    async def run(self, script: Script, keys: Sequence[str], arguments: Command) -> Any:
        """Raises:
        RedisAwayError
        """
        return await self._guarded(self._run(script.one, keys, arguments))

    async def run_many(self, script: Script, calls: Sequence[Call]) -> Sequence[Any]:
        """Many calls of one script in one round trip; an error stands in the place of its call, a
        ``RedisAwayError`` where a node of a cluster gave no answer. The server does nothing else meanwhile:
        some hundreds of calls are as many as it should be asked for.

        Raises:
            RedisAwayError: nobody answered, or ``Script.before`` failed for all of them.
        """
        if not calls:
            return ()
        answers: Sequence[Any] = await self._guarded(
            self._run_each(script.one, calls)
            if self._is_cluster
            else self._run(script.together, *as_one(calls))
        )
        return answers

    async def ping(self) -> None:
        await self.execute("PING")

    def answers_again(self) -> None:
        """Somebody knows that the server is back: nobody need leave it alone any longer."""
        self._resting_until = 0.0

    def listener(self) -> Listener:
        return Listener(connection(random.choice(self._node_urls()), self._timeout_s), self._timeout_s)  # noqa: S311 - only spreads

    async def close(self) -> None:
        await self._client.aclose()

    def _node_urls(self) -> Sequence[str]:
        # Those known so far: none before the first command.
        nodes = self._client.get_primaries() if self._is_cluster else ()
        parts = urlsplit(self._url)
        account, at, _ = parts.netloc.rpartition("@")
        places = [f"{account}{at}{node.host}:{node.port}" for node in nodes]
        return [urlunsplit((parts.scheme, place, "", parts.query, "")) for place in places] or [self._url]

    async def _guarded(self, answer: Any) -> Any:
        loop = asyncio.get_running_loop()
        # In a burst commands wait here, and their time begins when a connection is theirs.
        async with self._slots:
            if loop.time() < self._resting_until:
                answer.close()
                raise RedisAwayError
            try:
                async with asyncio.timeout(self._timeout_s):
                    return await answer
            except (*AWAY_ERRORS, TimeoutError) as error:
                self._resting_until = loop.time() + self._rest_s
                raise RedisAwayError from error
            except exceptions.RedisError as error:
                # It is there and will not: a permission is missing, its disk is full. Said aloud, and as
                # little an answer; who asked goes on without.
                _log.error("Redis refuses a command", error=str(error))
                raise RedisAwayError from error

    async def _run(self, source: Source, keys: Sequence[str], arguments: Command) -> Any:
        try:
            return await self._client.evalsha(source.digest, len(keys), *keys, *arguments)
        except exceptions.NoScriptError:
            return await self._client.eval(source.text, len(keys), *keys, *arguments)

    async def _run_each(self, source: Source, calls: Sequence[Call]) -> Sequence[Any]:
        """In a cluster every call has a slot, and so perhaps a server, of its own."""
        answers = await self._pipe(source, calls)
        missing = [i for i, answer in enumerate(answers) if isinstance(answer, exceptions.NoScriptError)]
        if missing:
            await self._client.script_load(source.text)  # to every master
            again = await self._pipe(source, [calls[i] for i in missing])
            for i, answer in zip(missing, again, strict=True):
                answers[i] = answer
        return [RedisAwayError() if isinstance(answer, AWAY_ERRORS) else answer for answer in answers]

    async def _pipe(self, source: Source, calls: Sequence[Call]) -> list[Any]:
        async with self._client.pipeline() as pipe:
            for keys, words in calls:
                pipe.execute_command("EVALSHA", source.digest, len(keys), *keys, *words)
            answers: list[Any] = await pipe.execute(raise_on_error=False)
            return answers


class Listener:
    """A connection of its own for channels, which breaks visibly: it never reconnects by itself, because
    what was published meanwhile is lost and somebody has to know. In a cluster every node hears every
    channel."""

    def __init__(self, client: Any, timeout_s: float) -> None:
        self._client = client
        self._pubsub: PubSub = client.pubsub()
        self._timeout_s = timeout_s

    async def subscribe(self, channels: Iterable[str]) -> None:
        """Each is confirmed by a ``subscribe`` notice.

        Raises:
            RedisAwayError
        """
        await self._guarded(self._pubsub.subscribe(*channels))

    async def unsubscribe(self, channels: Iterable[str]) -> None:
        await self._guarded(self._pubsub.unsubscribe(*channels))

    async def next(self, quiet_s: float) -> Notice | None:
        """What comes next; None when for ``quiet_s`` seconds nothing did and the server still answers.

        Raises:
            RedisAwayError
        """
        notice = await self._read(quiet_s)
        if notice is None:
            await self._guarded(self._pubsub.ping())
            notice = await self._read(self._timeout_s)
            if notice is None:
                raise RedisAwayError
        return notice if notice.kind != "pong" else None

    async def close(self) -> None:
        with contextlib.suppress(*AWAY_ERRORS):
            await self._pubsub.aclose()  # type: ignore[no-untyped-call]
        await self._client.aclose()

    async def _read(self, timeout_s: float) -> Notice | None:
        try:
            # A time-out of the driver's own would leave a half-read answer behind.
            message = await self._pubsub.get_message(timeout=timeout_s)
        except AWAY_ERRORS as error:
            raise RedisAwayError from error
        if message is None:
            return None
        channel = message["channel"]
        name = channel.decode() if isinstance(channel, bytes) else ""
        return Notice(str(message["type"]), name, message["data"])

    async def _guarded(self, command: Awaitable[Any]) -> None:
        try:
            async with asyncio.timeout(self._timeout_s):
                await command
        except (*AWAY_ERRORS, TimeoutError) as error:
            raise RedisAwayError from error


def connection(url: str, timeout_s: float) -> Any:
    """A client of one node, which does not reconnect by itself."""
    # redis-py has no published type for the parameters that it passes through.
    options: dict[str, Any] = {"socket_connect_timeout": timeout_s, "socket_timeout": None}
    return _Client.from_url(url, retry=Retry(NoBackoff(), 0), **options)


def without_cluster(url: str) -> tuple[str, bool]:
    """The URL as the driver takes it, and whether it is of a cluster."""
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query))
    cluster = query.pop("cluster", "false").lower() in ("1", "true", "yes")
    return urlunsplit(parts._replace(query=urlencode(query))), cluster
