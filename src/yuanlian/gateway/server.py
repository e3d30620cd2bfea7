"""A listener: accepts connections for a handler, keeps their deadlines, ends in order."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from yuanlian.gateway.connection import HttpConnection
from yuanlian.gateway.handler import Handler
from yuanlian.gateway.intake import Limits
from yuanlian.gateway.observer import Observer
from yuanlian.gateway.peers import Peers, nobody

_BACKLOG = 4096


class GatewayServer:
    """Serves one address. Use one for the public listener and one for the admin listener.

    ``exempt`` says of an address that it may have any number of connections (proxies in front of us).
    """

    def __init__(
        self,
        handler: Handler,
        observer: Observer,
        limits: Limits | None = None,
        exempt: Callable[[str], bool] = nobody,
    ) -> None:
        self._handler = handler
        self._observer = observer
        self._limits = limits or Limits()
        self._connections: Peers[HttpConnection] = Peers(self._limits.connections_per_address, exempt)
        self._server: asyncio.Server | None = None
        self._sweeper: asyncio.Task[None] | None = None

    async def start(self, host: str, port: int) -> int:
        """Listens, and returns the port (of use when ``port`` is 0).

        Raises:
            OSError: the address is taken or may not be used.
        """
        self._server = await asyncio.get_running_loop().create_server(
            lambda: HttpConnection(self._handler, self._observer, self._limits, self._connections),
            host,
            port,
            backlog=_BACKLOG,
        )
        self._sweeper = asyncio.create_task(self._sweep())
        bound: int = self._server.sockets[0].getsockname()[1]
        return bound

    async def stop(self, drain_s: float = 5.0) -> None:
        """Accepts nothing more, closes idle connections, lets requests under way finish for
        ``drain_s`` seconds, then cuts what is left. WebSockets end with their own handler."""
        if self._server is None or self._sweeper is None:
            return
        self._server.close()
        for connection in list(self._connections):
            connection.drain()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(drain_s):
                while self._connections:  # noqa: ASYNC110 - the last to leave has many ways to do so
                    await asyncio.sleep(0.01)
        for connection in list(self._connections):
            connection.abort()
        self._sweeper.cancel()
        await asyncio.sleep(0)
        self._server = self._sweeper = None

    async def _sweep(self) -> None:
        """One look at everybody's deadline now and then costs less than a timer per request."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self._limits.sweep_s)
            now = loop.time()
            for connection in list(self._connections):
                connection.check_deadline(now)
