"""``/ws`` on a loopback port of its own: the real edge connection, hub, tokens and revocations, and
a tenant service and directory whose answers a test sets."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from typing import Any, Literal

import uvloop
from joserfc import jwt
from joserfc.jwk import OctKey
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from yuanlian.contracts import tenant as tenant_contract
from yuanlian.gateway.connection import HttpConnection
from yuanlian.gateway.failed_tokens import PER_MINUTE
from yuanlian.gateway.http import Request
from yuanlian.gateway.limits import Limits
from yuanlian.gateway.observer import SilentObserver
from yuanlian.gateway.origin import TrustedProxies
from yuanlian.gateway.peers import Peers
from yuanlian.gateway.response import ResponseWriter
from yuanlian.gateway.upgrade import UpgradeHandler
from yuanlian.gateway.websocket import WebSocketEndpoint
from yuanlian.gateway.websocket_limits import WebSocketLimits
from yuanlian.kit.clock import SystemClock
from yuanlian.kit.errors import AuthorizationError, NotFoundError
from yuanlian.kit.identity.memory import MemoryRevocations
from yuanlian.kit.identity.principal import Principal
from yuanlian.kit.identity.tokens import AUDIENCE, ISSUER, AccessTokenVerifier
from yuanlian.kit.realtime.hub import Event
from yuanlian.kit.realtime.memory import MemoryHub
from yuanlian.kit.tenancy.directory import Tenant, TenantStatus

SECRET = b"a secret of the tests, long enough for HS256"
WAIT_S = 10.0


def on_both_loops(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Runs it twice: on uvloop, as the platform does, and on asyncio's own loop; their transports
    buffer and close differently."""
    uvloop.run(scenario())
    asyncio.run(scenario())


class Tenants:
    """A ``TenantDirectory`` in memory."""

    def __init__(self) -> None:
        self._tenants = {name: Tenant(name, name) for name in ("a", "b")}
        self._listeners: list[Callable[[Tenant], None]] = []

    async def find(self, tenant_id: str) -> Tenant | None:
        return self._tenants.get(tenant_id)

    def at_hand(self, tenant_id: str) -> Tenant | None:
        return self._tenants.get(tenant_id)

    async def find_by_domain(self, domain: str) -> Tenant | None:
        return next((t for t in self._tenants.values() if t.domain == domain), None)

    def on_change(self, listener: Callable[[Tenant], None]) -> None:
        self._listeners.append(listener)

    def set_status(self, tenant_id: str, status: TenantStatus) -> None:
        tenant = self._tenants[tenant_id] = Tenant(tenant_id, tenant_id, status=status)
        for listener in self._listeners:
            listener(tenant)


class TenantService:
    """A ``ServiceClient`` that answers as the tenant service does about channels. ``open``: cleared,
    answers wait."""

    def __init__(self) -> None:
        self.follows: dict[str, list[str]] = {}
        self.may_follow: dict[str, set[str]] = {}
        self.failure: Exception | None = None
        self.open = asyncio.Event()
        self.open.set()
        self.asked = 0

    async def call(
        self,
        service: str,
        method: str,
        path: str,
        *,
        principal: Principal,
        query: dict[str, str] | None = None,
        data: Any = None,
    ) -> Any:
        assert (service, method) == (tenant_contract.SERVICE, "GET")
        self.asked += 1
        await self.open.wait()
        if self.failure is not None:
            raise self.failure
        if path == tenant_contract.CHANNELS_PATH:
            return {"channels": self.follows.get(principal.user_id, [])}
        if path == tenant_contract.CHANNEL_CHECK_PATH and query is not None:
            if query["channel"] not in self.may_follow.get(principal.user_id, ()):
                raise AuthorizationError
            return {}
        raise NotFoundError


class Counter(SilentObserver):
    def __init__(self) -> None:
        self.opened = 0
        self.closed = 0

    def connection_opened(self, kind: Literal["http", "websocket"]) -> None:
        self.opened += kind == "websocket"

    def connection_closed(self, kind: Literal["http", "websocket"]) -> None:
        self.closed += kind == "websocket"


class OnlyWebSocket:
    """A gateway ``Handler`` with one path."""

    def __init__(self, endpoint: UpgradeHandler) -> None:
        self._endpoint = endpoint

    def body_limit(self, request: Request) -> int:
        return 0

    def upgrade(self, request: Request) -> UpgradeHandler | None:
        return self._endpoint if request.path == b"/ws" else None

    async def handle(self, request: Request, response: ResponseWriter) -> None:
        raise NotFoundError


class Client:
    """One ``/ws`` connection as an app holds it."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket

    async def say(self, message: Any) -> None:
        await self.socket.send(message if isinstance(message, str | bytes) else json.dumps(message))

    async def hear(self) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(await asyncio.wait_for(self.socket.recv(), WAIT_S))
        return message

    async def hear_nothing_but_pong(self) -> None:
        """Whatever was sent before the answer to this ping would come before it."""
        await self.say({"type": "ping", "timestamp": 7})
        assert await self.hear() == {"type": "pong", "timestamp": 7}

    async def closed_with(self) -> int:
        """The close code, once the server has closed; messages before it are skipped."""
        try:
            async with asyncio.timeout(WAIT_S):
                while True:
                    await self.socket.recv()
        except ConnectionClosed:
            code = self.socket.close_code
            assert code is not None
            return code


class Edge:
    """``async with Edge() as edge``: serves until the end of the block."""

    def __init__(
        self,
        *,
        bad_tokens_per_minute: int = PER_MINUTE,
        trusted_proxies: tuple[str, ...] = (),
        **limits: Any,
    ) -> None:
        self.hub = MemoryHub()
        self._bad_tokens_per_minute = bad_tokens_per_minute
        self._proxies = TrustedProxies(trusted_proxies)
        self._limits = WebSocketLimits(**limits)
        self._stack = AsyncExitStack()
        self._sign_ins = 0

    async def __aenter__(self) -> Edge:
        clock = SystemClock()
        self.tenants = Tenants()
        self.service = TenantService()
        self.observer = Counter()
        self.revocations = MemoryRevocations(clock)
        self.endpoint = WebSocketEndpoint(
            self.hub,
            AccessTokenVerifier({"k1": SECRET}, clock),
            self.revocations,
            self.tenants,
            self.service,
            self.observer,
            limits=self._limits,
            trusted_proxies=self._proxies,
            bad_tokens_per_minute=self._bad_tokens_per_minute,
        )
        handler, peers = OnlyWebSocket(self.endpoint), Peers[HttpConnection](1000)
        server = await asyncio.get_running_loop().create_server(
            lambda: HttpConnection(handler, self.observer, Limits(), peers), "127.0.0.1", 0
        )
        self.port: int = server.sockets[0].getsockname()[1]
        self._stack.callback(server.close)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.endpoint.stop(0.5)
        await self._stack.aclose()

    def token(
        self, user: str = "user_1", tenant: str = "a", *, lifetime_s: int = 3600, sid: str = "", **claims: Any
    ) -> str:
        self._sign_ins += 1
        now = int(time.time())
        payload = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": user,
            "iat": now - 1,
            "exp": now + lifetime_s,
            "jti": f"token_{self._sign_ins}",
            "sid": sid or f"session_{self._sign_ins}",
            "tenantId": tenant,
            "roles": ["teacher"],
            "permissions": [],
            **claims,
        }
        header = {"alg": "HS256", "typ": "JWT", "kid": "k1"}
        return jwt.encode(header, payload, OctKey.import_key(SECRET))

    async def connect(self, **options: Any) -> Client:
        socket = await connect(
            f"ws://127.0.0.1:{self.port}/ws",
            compression=None,
            proxy=None,
            close_timeout=1,
            ping_interval=None,
            **options,
        )
        self._stack.push_async_callback(socket.close)
        return Client(socket)

    async def auth(
        self, user: str = "user_1", tenant: str = "a", resume: str | None = None, **token: Any
    ) -> tuple[Client, dict[str, Any]]:
        """A connection that has said who it is, and the first answer."""
        client = await self.connect()
        frame = {"type": "auth", "token": self.token(user, tenant, **token), "tenantId": tenant}
        await client.say(frame | ({"resume": resume} if resume is not None else {}))
        return client, await client.hear()

    async def sign_in(self, user: str = "user_1", tenant: str = "a", **token: Any) -> Client:
        client, answer = await self.auth(user, tenant, **token)
        assert answer["type"] == "auth_success", answer
        return client

    async def announce(self, text: str, *channels: str, tenant: str = "a") -> None:
        await self.hub.publish([Event(tenant, channels, {"type": "notification", "data": {"text": text}})])

    async def deserted(self) -> None:
        """Returns once no connection is left."""
        async with asyncio.timeout(WAIT_S):
            while self.endpoint.connections:
                await asyncio.sleep(0.005)
