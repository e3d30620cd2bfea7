"""A listener: accepts connections for a handler, keeps their deadlines, ends in order."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections import deque
from collections.abc import Callable

from yuanlian.gateway.connection import HttpConnection
from yuanlian.gateway.handler import Handler
from yuanlian.gateway.limits import Limits
from yuanlian.gateway.observer import Observer
from yuanlian.gateway.peers import Peers, nobody
from yuanlian.gateway.secure import SecureHandler
from yuanlian.gateway.tls_listener import TlsListener, bound
from yuanlian.kit.resilience.keeping import kept

_OWN = -1
BACKLOG = 4096
"""Connections that wait to be accepted; the kernel allows no more than ``net.core.somaxconn``."""
ARRIVAL_S = 1.0
"""How long one who connected just before a stop is waited for, so that its request is answered."""
_LOOK_S = 0.01
_UNACKED = struct.Struct("24xI")
"""The field of ``struct tcp_info`` (linux/tcp.h)."""


class GatewayServer:
    """Serves one address, or sockets that listen already. Use one for the public listener and one for the
    admin listener.

    ``exempt`` says of an address that it may have any number of connections (proxies in front of us).
    ``tls``: the context of a listener that speaks TLS and nothing else.
    """

    def __init__(
        self,
        handler: Handler,
        observer: Observer,
        limits: Limits | None = None,
        exempt: Callable[[str], bool] = nobody,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._handler = handler if tls is None else SecureHandler(handler)
        self._observer = observer
        self._limits = limits or Limits()
        self._tls = tls
        self._connections: Peers[HttpConnection] = Peers(self._limits.connections_per_address, exempt)
        self._arrivals: deque[tuple[float, HttpConnection]] = deque()
        self._servers: dict[int, asyncio.Server | TlsListener] = {}
        self._handshakes: set[asyncio.Task[None]] = set()
        self._sweeper: asyncio.Task[None] | None = None

    async def start(self, host: str, port: int) -> int:
        """Listens, and returns the port (of use when ``port`` is 0).

        Raises:
            OSError: the address is taken or may not be used.
        """
        server: asyncio.Server | TlsListener
        if self._tls is not None:
            server = self._secure(await bound(host, port, BACKLOG), self._tls)
        else:
            loop = asyncio.get_running_loop()
            server = await loop.create_server(self._connection, host, port, backlog=BACKLOG)
        self._servers[_OWN] = server
        self._begin()
        return int(server.sockets[0].getsockname()[1])

    async def accept_from(self, listening: socket.socket) -> None:
        """Accepts what arrives at a socket that listens already, beside what it accepts from so far. The
        socket stays the caller's."""
        if listening.fileno() in self._servers:
            return
        if self._tls is not None:
            self._servers[listening.fileno()] = self._secure([listening.dup()], self._tls)
        else:
            self._servers[listening.fileno()] = await asyncio.get_running_loop().create_server(
                self._connection, sock=listening.dup(), backlog=BACKLOG
            )
        self._begin()

    def leave(self, listening: socket.socket) -> None:
        """Accepts from it no more; what has connected stays, what waits is for whoever accepts next."""
        server = self._servers.pop(listening.fileno(), None)
        if server is not None:
            server.close()

    async def stop(self, drain_s: float = 5.0) -> None:
        """Accepts who has connected already and then nobody, closes idle connections, lets requests under
        way finish for ``drain_s`` seconds, then cuts what is left. WebSockets end with their own handler.

        Linux resets connections that wait in the queue of a listening socket whose last descriptor is
        closed; hence the queue is emptied first. What connects between that and the closing is lost: only
        another process with the same socket can avoid it.
        """
        if self._sweeper is None:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(drain_s, ARRIVAL_S)):
                while any(map(_queue_length, self._servers.values())):  # noqa: ASYNC110 - the kernel's
                    await asyncio.sleep(0)
                await asyncio.sleep(_LOOK_S)  # the last ones are on their way through the event loop
        stopped = asyncio.get_running_loop().time()
        for server in self._servers.values():
            server.close()
        self._servers.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(drain_s):
                while self._drain(stopped):  # noqa: ASYNC110 - the last to leave has many ways to do so
                    await asyncio.sleep(_LOOK_S)
        for connection in list(self._connections):
            connection.abort()
        sweeper, self._sweeper = self._sweeper, None
        last = {sweeper, *self._handshakes}
        for task in last:
            task.cancel()
        await asyncio.wait(last)  # not gathered: what one of them failed with is for the log

    def _connection(self) -> HttpConnection:
        connection = HttpConnection(self._handler, self._observer, self._limits, self._connections)
        self._arrivals.append((asyncio.get_running_loop().time(), connection))
        return connection

    def _secure(self, sockets: list[socket.socket], tls: ssl.SSLContext) -> TlsListener:
        return TlsListener(
            sockets, tls, self._limits.head_s, self._connection, self._connections, self._handshakes
        )

    def _begin(self) -> None:
        if self._sweeper is None:
            self._sweeper = asyncio.create_task(kept("deadlines of clients", self._sweep))

    def _drain(self, stopped: float) -> int:
        """Lets go whoever can; returns how many are left, handshakes under way included."""
        recent = self._arrived_since(max(stopped, asyncio.get_running_loop().time()) - ARRIVAL_S)
        for connection in list(self._connections):
            connection.drain(wait=connection in recent)
        return len(self._connections) + sum(connection.arriving for connection in recent)

    def _arrived_since(self, since: float) -> set[HttpConnection]:
        while self._arrivals and self._arrivals[0][0] < since:
            self._arrivals.popleft()
        return {connection for _, connection in self._arrivals}

    async def _sweep(self) -> None:
        """One look at everybody's deadline now and then costs less than a timer per request."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self._limits.sweep_s)
            now = loop.time()
            self._arrived_since(now - ARRIVAL_S)
            for connection in list(self._connections):
                connection.check_deadline(now)


def _queue_length(server: asyncio.Server | TlsListener) -> int:
    """Connections that wait to be accepted. Of a listening socket, Linux tells it as ``tcpi_unacked``
    (tcp_diag.c, tcp_get_info)."""
    length = 0
    for listening in server.sockets:
        info = listening.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _UNACKED.size)
        length += _UNACKED.unpack(info)[0]
    return length
