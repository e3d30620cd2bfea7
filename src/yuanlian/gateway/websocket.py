"""``/ws``: takes upgraded connections over from the HTTP server. CONTRACT §7, DESIGN §4."""

from __future__ import annotations

import asyncio
from typing import Literal, Protocol

from yuanlian.gateway.authentication import TokenVerifier
from yuanlian.gateway.failed_tokens import PER_MINUTE, FailedTokens
from yuanlian.gateway.http import Request
from yuanlian.gateway.origin import TrustedProxies
from yuanlian.gateway.websocket_admission import Admission
from yuanlian.gateway.websocket_connection import WebSocketConnection
from yuanlian.gateway.websocket_limits import CloseCode, WebSocketLimits
from yuanlian.gateway.websocket_registry import SessionRegistry
from yuanlian.gateway.websocket_session import WebSocketSession
from yuanlian.kit.clock import Clock, SystemClock
from yuanlian.kit.http.client import ServiceClient
from yuanlian.kit.i18n import negotiate
from yuanlian.kit.identity.revocation import Revocations
from yuanlian.kit.ids import new_id
from yuanlian.kit.realtime.hub import Hub
from yuanlian.kit.tenancy.directory import Tenant, TenantDirectory


class ConnectionObserver(Protocol):
    """The part of the edge's ``Observer`` that is told of connections."""

    def connection_opened(self, kind: Literal["websocket"]) -> None: ...

    def connection_closed(self, kind: Literal["websocket"]) -> None: ...


class WebSocketEndpoint:
    """Implements ``UpgradeHandler``. Create it on the event loop, once per process: it listens to
    revocations and to changes of tenants for as long as it lives.

    A page of another site gains nothing by connecting here: no cookie signs it in, only the token
    in the first frame does; hence any ``Origin`` is accepted.

    ``trusted_proxies``: as of the ``Gateway``. ``bad_tokens_per_minute``: for one address, counted apart from
    those of HTTP requests.
    """

    def __init__(
        self,
        hub: Hub,
        verifier: TokenVerifier,
        revocations: Revocations,
        directory: TenantDirectory,
        client: ServiceClient,
        observer: ConnectionObserver,
        *,
        clock: Clock | None = None,
        limits: WebSocketLimits | None = None,
        trusted_proxies: TrustedProxies | None = None,
        bad_tokens_per_minute: int = PER_MINUTE,
    ) -> None:
        self._hub = hub
        self._observer = observer
        self._clock = clock or SystemClock()
        self._proxies = trusted_proxies or TrustedProxies()
        failed = FailedTokens(self._clock, bad_tokens_per_minute)
        self._admission = Admission(verifier, revocations, directory, client, failed)
        self._limits = limits or WebSocketLimits()
        self._registry = SessionRegistry()
        self._connections: set[WebSocketConnection] = set()
        self._stopping = False
        self._empty = asyncio.Event()
        revocations.on_revoked(self._revoked)
        directory.on_change(self._tenant_changed)

    @property
    def connections(self) -> int:
        return len(self._connections)

    def sessions_of(self, tenant_id: str) -> int:
        """How many connections speak for members of a tenant."""
        return len(self._registry.of_tenant(tenant_id))

    def accept(self, transport: asyncio.Transport, request: Request, leftover: bytes) -> asyncio.Protocol:
        connection = WebSocketConnection(transport, self._limits, self._lost)
        full = self._stopping or len(self._connections) >= self._limits.max_connections
        if not connection.handshake(request, refuse="Try again later.\n" if full else None):
            return connection
        self._connections.add(connection)
        self._observer.connection_opened("websocket")
        session = WebSocketSession(
            connection,
            self._admission,
            self._hub,
            self._registry,
            self._limits,
            self._clock,
            request.request_id or new_id("req"),
            negotiate((request.header(b"accept-language") or b"").decode("latin-1")),
            self._proxies.origin(request).network,
        )
        connection.start(session, leftover)
        return connection

    async def stop(self, timeout_s: float = 2.0) -> None:
        """Tells every client that we are going (1001) and waits for them, ``timeout_s`` at most."""
        self._stopping = True
        for connection in list(self._connections):
            connection.close(CloseCode.GOING_AWAY)
        try:
            async with asyncio.timeout(timeout_s):
                await self._wait_until_empty()
        except TimeoutError:
            for connection in list(self._connections):
                connection.abort()
            await self._wait_until_empty()

    async def _wait_until_empty(self) -> None:
        while self._connections:
            self._empty.clear()
            await self._empty.wait()

    def _lost(self, connection: WebSocketConnection) -> None:
        if connection in self._connections:
            self._connections.discard(connection)
            self._observer.connection_closed("websocket")
        if not self._connections:
            self._empty.set()

    def _revoked(self, session_id: str | None, tenant_id: str | None, user_id: str | None) -> None:
        """A member's connections all end, those with a newer token too: they come back with it and
        follow what they may see now."""
        if session_id is not None:
            for session in self._registry.of_sign_in(session_id):
                session.close(CloseCode.UNAUTHENTICATED)
        if tenant_id is not None and user_id is not None:
            for session in self._registry.of_member(tenant_id, user_id):
                session.close(CloseCode.UNAUTHENTICATED)

    def _tenant_changed(self, tenant: Tenant) -> None:
        if tenant.status != "active":
            for session in self._registry.of_tenant(tenant.id):
                session.close(CloseCode.FORBIDDEN)
