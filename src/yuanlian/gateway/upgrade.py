"""How a connection leaves HTTP: the port between the HTTP connection and the WebSocket."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Protocol

from yuanlian.gateway.http import Request


class UpgradeHandler(Protocol):
    """Takes over the transport of a ``GET`` that asks for ``Upgrade: websocket``.

    ``accept`` is called on the event loop, once all earlier requests of the connection are answered.
    It must not block or raise: it writes the 101 (or a refusal, and closes) to ``transport`` itself
    and returns the protocol that the connection speaks from now on. ``leftover``: bytes that the
    client sent right behind the request; they belong to the new protocol. After ``accept`` the HTTP
    connection never touches the transport again; ``connection_made`` is not called on the returned
    protocol, ``connection_lost`` is.
    """

    def accept(self, transport: asyncio.Transport, request: Request, leftover: bytes) -> asyncio.Protocol: ...


@dataclass(frozen=True, slots=True)
class Upgrade:
    """A request whose connection ``handler`` takes over, and what has arrived behind it."""

    handler: UpgradeHandler
    request: Request
    leftover: bytes
