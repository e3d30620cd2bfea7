"""``/ws`` of a gateway whose services are in other processes: a tunnel to whoever speaks it there."""

from __future__ import annotations

import asyncio

from yuanlian.contracts.edge import REALTIME
from yuanlian.gateway.http import Request
from yuanlian.gateway.routes import Route
from yuanlian.gateway.routes_file import Entry
from yuanlian.gateway.upstreams.tunnel import Tunnels

ROUTE = Route.of(Entry("/ws", REALTIME, ["GET"], auth=False, upgrade=["websocket"]))
"""In no table: the path is the contract's. The first frame has the token, so none is asked for before."""


class WebSocketTunnel:
    """Implements ``UpgradeHandler``. ``tunnels``: those of the gateway's routes."""

    def __init__(self, tunnels: Tunnels) -> None:
        self._tunnels = tunnels

    def accept(self, transport: asyncio.Transport, request: Request, leftover: bytes) -> asyncio.Protocol:
        request.matched = ROUTE
        request.route = ROUTE.path
        request.standing = ROUTE.standing
        return self._tunnels.accept(transport, request, leftover)
