"""Accepting for a listener that speaks TLS. Who comes counts for its address from then on: with
``create_server`` it would only once its handshake is over, which somebody may never begin."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import socket
import ssl
from collections.abc import Callable, Sequence

import structlog

from yuanlian.gateway.connection import HttpConnection
from yuanlian.gateway.peers import Peers

FAREWELL_S = 1.0
"""For a client to answer our closing."""
_AT_ONCE = 64
_SCARCE = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_SCARCE_S = 1.0

_log = structlog.get_logger("gateway")


class TlsListener:
    """``sockets`` listen already and are its own. ``handshake_s``: what a handshake may take.
    ``handshakes``: those under way; they go on after ``close``."""

    def __init__(
        self,
        sockets: Sequence[socket.socket],
        context: ssl.SSLContext,
        handshake_s: float,
        connect: Callable[[], HttpConnection],
        peers: Peers[HttpConnection],
        handshakes: set[asyncio.Task[None]],
    ) -> None:
        self.sockets = tuple(sockets)
        self._context = context
        self._handshake_s = handshake_s
        self._connect = connect
        self._peers = peers
        self._handshakes = handshakes
        self._loop = asyncio.get_running_loop()
        self._closed = False
        for listening in self.sockets:
            listening.setblocking(False)
            self._loop.add_reader(listening, self._accept, listening)

    def close(self) -> None:
        """Accepts no more."""
        self._closed = True
        for listening in self.sockets:
            self._loop.remove_reader(listening)
            listening.close()

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(_AT_ONCE):
            try:
                client, address = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in _SCARCE:
                    raise
                _log.error("cannot accept", reason=error.strerror)
                self._loop.remove_reader(listening)
                self._loop.call_later(_SCARCE_S, self._accept_again, listening)
                return
            self._begin(client, str(address[0]))

    def _accept_again(self, listening: socket.socket) -> None:
        if not self._closed:
            self._loop.add_reader(listening, self._accept, listening)

    def _begin(self, client: socket.socket, address: str) -> None:
        connection = self._connect()
        if not self._peers.expect(connection, address):
            self._peers.give_up(connection, address)
            client.close()
            return
        handshake = self._loop.create_task(self._shake_hands(connection, client, address))
        self._handshakes.add(handshake)
        handshake.add_done_callback(self._handshakes.discard)

    async def _shake_hands(self, connection: HttpConnection, client: socket.socket, address: str) -> None:
        try:
            client.setblocking(False)
            with contextlib.suppress(OSError):  # whatever went wrong, it was the client's handshake
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                await self._loop.connect_accepted_socket(
                    lambda: connection,
                    client,
                    ssl=self._context,
                    ssl_handshake_timeout=self._handshake_s,
                    ssl_shutdown_timeout=FAREWELL_S,
                )
        finally:
            self._peers.give_up(connection, address)


async def bound(host: str, port: int, backlog: int) -> list[socket.socket]:
    """Sockets that listen at every address of ``host``; without one, at every address there is.

    Raises:
        OSError: the address is taken or may not be used.
    """
    find = functools.partial(socket.getaddrinfo, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    found = await asyncio.to_thread(find, host or None, port)  # uvloop's own loses the scope
    sockets: list[socket.socket] = []
    try:
        for family, address in dict.fromkeys((family, address) for family, _, _, _, address in found):
            # The whole address: a link-local one ends with its scope. IPv6 made so leaves IPv4 alone.
            try:
                sockets.append(socket.create_server(address, family=family, backlog=backlog))
            except OSError as error:
                if host or error.errno != errno.EAFNOSUPPORT:  # a system without IPv6 has no `::`
                    raise
    except OSError:
        for one in sockets:
            one.close()
        raise
    return sockets
