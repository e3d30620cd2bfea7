"""The connections to one instance."""

from __future__ import annotations

import asyncio
import contextlib
import math
import select
from collections import deque
from dataclasses import dataclass

from yuanlian.gateway.gathering import Turn
from yuanlian.gateway.upstreams.attempts import AttemptError
from yuanlian.gateway.upstreams.http_connection import UpstreamConnection
from yuanlian.gateway.upstreams.known_answer import KnownAnswer
from yuanlian.kit.errors import ServiceUnavailableError


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """Counts and seconds. ``idle_s`` has to be shorter than the instance keeps its idle connections
    (uvicorn and Node: 5 s): whoever closes first never sends into a closing connection."""

    connect_s: float = 2.0
    idle_s: float = 4.0
    idle: int = 1024
    connections: int = 1024
    waiting: int = 1024


class Pool:
    """Keep-alive connections to ``host:port``, the last used first: the rest may grow old and close.

    ``take`` never waits. When there is nothing to take, ``open`` connects, or waits its turn when
    ``connections`` are in use.
    """

    def __init__(self, host: str, port: int, limits: PoolLimits) -> None:
        self._host = host
        self._port = port
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._idle: list[UpstreamConnection] = []
        self._living: set[UpstreamConnection] = set()
        self._connecting = 0
        self._waiting: deque[asyncio.Future[UpstreamConnection | None]] = deque()
        self._closed = False
        self.known = KnownAnswer()
        self.turn = Turn()  # what its connections write together

    def take(self, *, repeatable: bool) -> UpstreamConnection | None:
        """An idle connection. What is not ``repeatable`` gets one that was looked at first."""
        idle = self._idle
        while idle:
            connection = idle.pop()
            transport = connection.transport
            if connection.lost or transport is None or transport.is_closing():
                continue
            if repeatable or is_quiet(connection):
                return connection
            connection.close()
        return None

    async def open(self, until: float) -> UpstreamConnection:
        """A new connection, or one that became free meanwhile. ``until``: on the loop's clock.

        Raises:
            AttemptError: unsent; nobody answers there, or too many are waiting already.
        """
        try:
            async with asyncio.timeout_at(min(until, self._loop.time() + self._limits.connect_s)):
                while self._full:
                    connection = await self._turn()
                    if connection is not None and not connection.lost:
                        return connection
                return await self._connect()
        except (OSError, TimeoutError) as error:
            reason = f"no connection to {self._host}:{self._port}: {error or 'timed out'}"
            raise AttemptError(ServiceUnavailableError(), reason, unsent=True, unanswered=True) from None

    @property
    def _full(self) -> bool:
        return len(self._living) + self._connecting >= self._limits.connections

    async def _connect(self) -> UpstreamConnection:
        self._connecting += 1
        connection: UpstreamConnection | None = None
        try:
            _, connection = await self._loop.create_connection(
                lambda: UpstreamConnection(self), self._host, self._port
            )
        finally:
            self._connecting -= 1
            if connection is None:
                self._hand_on(None)
        if connection.lost:
            raise ConnectionResetError("closed at once")
        self._living.add(connection)
        return connection

    async def _turn(self) -> UpstreamConnection | None:
        """Waits for a connection that became free; None when one is gone, so that there is room."""
        if len(self._waiting) >= self._limits.waiting:
            reason = "too many wait for a connection"
            raise AttemptError(ServiceUnavailableError(), reason, unsent=True, overload=True)
        turn: asyncio.Future[UpstreamConnection | None] = self._loop.create_future()
        self._waiting.append(turn)
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._pass_over(turn.result())
            raise
        finally:
            with contextlib.suppress(ValueError):
                self._waiting.remove(turn)

    def _pass_over(self, connection: UpstreamConnection | None) -> None:
        """It was the turn of somebody who has left."""
        if connection is None or connection.lost:
            self._hand_on(None)
        else:
            self.release(connection)

    def _hand_on(self, connection: UpstreamConnection | None) -> bool:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(connection)
                return True
        return False

    # --- what connections report --------------------------------------------------------------

    def release(self, connection: UpstreamConnection) -> None:
        if self._waiting and self._hand_on(connection):
            return
        if self._closed or len(self._idle) >= self._limits.idle:
            connection.close()
            return
        connection.deadline = self._loop.time() + self._limits.idle_s
        self._idle.append(connection)

    def forget(self, connection: UpstreamConnection) -> None:
        self._living.discard(connection)
        with contextlib.suppress(ValueError):
            self._idle.remove(connection)
        if self._waiting:
            self._hand_on(None)

    # --- keeping ------------------------------------------------------------------------------

    @property
    def in_use(self) -> bool:
        return bool(self._living or self._connecting or self._waiting)

    def check_deadlines(self, now: float) -> float:
        """When the next of them is due, at the earliest."""
        for connection in tuple(self._living):
            connection.check_deadline(now)
        return min((connection.deadline for connection in self._living), default=math.inf)

    def close(self) -> None:
        """Idle connections close now, the others when their answer is whole."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()

    def abort(self) -> None:
        """Everything ends now."""
        self.close()
        for connection in tuple(self._living):
            connection.close()


def is_quiet(connection: UpstreamConnection) -> bool:
    """Nothing has arrived on this idle connection, not even its end. One system call: for requests that
    could not be repeated if the instance has just closed it."""
    if connection.poll is None:
        assert connection.transport is not None  # whoever calls has looked
        connection.poll = select.poll()
        connection.poll.register(connection.transport.get_extra_info("socket").fileno(), select.POLLIN)
    return not connection.poll.poll(0)
