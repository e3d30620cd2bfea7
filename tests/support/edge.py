"""The gateway on a loopback port of its own, in front of small ASGI applications; and a client that
sends exactly the bytes it is told to."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import uvloop
from joserfc import jwt
from joserfc.jwk import OctKey
from tests.support.websocket import SECRET, Tenants

from yuanlian.gateway.failed_tokens import PER_MINUTE
from yuanlian.gateway.limits import Limits
from yuanlian.gateway.observer import SilentObserver
from yuanlian.gateway.origin import TrustedProxies
from yuanlian.gateway.pages import Pages
from yuanlian.gateway.pipeline import Gateway
from yuanlian.gateway.routes import RouteTable
from yuanlian.gateway.server import GatewayServer
from yuanlian.gateway.upgrade import UpgradeHandler
from yuanlian.gateway.upstreams.asgi import ASGIApp, AsgiUpstream
from yuanlian.gateway.upstreams.upstream import Upstream
from yuanlian.kit.clock import SystemClock
from yuanlian.kit.identity.internal import InternalIdentity
from yuanlian.kit.identity.memory import MemoryRevocations
from yuanlian.kit.identity.tokens import AUDIENCE, ISSUER, AccessTokenVerifier
from yuanlian.kit.observe.entry import AccessLine
from yuanlian.kit.resilience.memory import MemoryRateLimiter

ROUTES = """
routes:
  - {path: /open/**, service: svc, methods: [GET, POST, PUT], auth: false, timeoutMs: 2000}
  - {path: /private/**, service: svc, methods: [GET, POST], auth: true}
  - {path: /slow, service: svc, methods: [GET, POST], auth: false, timeoutMs: 50}
  - {path: /tiny, service: svc, methods: [POST], auth: false, maxBodyBytes: 10}
  - {path: /limited, service: svc, methods: [GET], auth: false, rateLimit: {max: 2, windowMs: 60000}}
  - {path: /mine, service: svc, methods: [GET], auth: true, rateLimit: {max: 1, windowMs: 60000}}
  - {path: /nowhere, service: missing, methods: [GET], auth: false}
"""

_DOCUMENT: Mapping[str, Any] = {"openapi": "3.1.0", "info": {"title": "t", "version": "v1"}}


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Seen(NamedTuple):
    """A request as the service behind the gateway got it."""

    method: str
    path: str
    query: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes
    raw_path: bytes = b""

    def header(self, name: str) -> str | None:
        values = [value.decode("latin-1") for key, value in self.headers if key == name.encode()]
        assert len(values) <= 1, f"{name} more than once"
        return values[0] if values else None


class Recorder:
    """An ASGI application that answers 200 ``ok`` and remembers what it was asked."""

    def __init__(self) -> None:
        self.seen: list[Seen] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = (await receive())["body"]
        self.seen.append(
            Seen(
                scope["method"],
                scope["path"],
                scope["query_string"],
                list(scope["headers"]),
                body,
                scope["raw_path"],
            )
        )
        await send(
            {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]}
        )
        await send({"type": "http.response.body", "body": b"ok"})


class Finished(SilentObserver):
    """Keeps the access lines, and ``(method, route, status, tenant, user)`` of every request."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, int, str, str]] = []
        self.lines: list[AccessLine] = []
        self.open = 0

    def request_finished(self, line: AccessLine) -> None:
        self.requests.append((line.method, line.route, line.status, line.tenant_id, line.user_id))
        self.lines.append(line)

    def connection_opened(self, kind: str) -> None:
        self.open += 1

    def connection_closed(self, kind: str) -> None:
        self.open -= 1


@dataclass
class Edge:
    port: int
    gateway: Gateway
    server: GatewayServer
    tenants: Tenants
    revocations: MemoryRevocations
    identity: InternalIdentity
    observer: Finished
    ready: list[bool] = field(default_factory=lambda: [True])

    async def raw(self, *pieces: bytes) -> list[Answer]:
        """Sends the pieces one by one and returns all answers until the gateway closes."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0.01)
            return parse(await asyncio.wait_for(reader.read(), 10))
        finally:
            writer.close()

    async def get(self, path: str, *headers: str, method: str = "GET", body: bytes | None = None) -> Answer:
        """One request on a connection of its own."""
        lines = [f"{method} {path} HTTP/1.1", "Host: edge.test", "Connection: close", *headers]
        if body is not None:
            lines.append(f"Content-Length: {len(body)}")
        head = ("\r\n".join(lines) + "\r\n\r\n").encode()
        answers = await self.raw(head + (body or b""))
        assert len(answers) == 1
        return answers[0]

    def token(self, user: str = "user_1", tenant: str = "a", **claims: Any) -> str:
        now = int(time.time())
        payload = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": user,
            "iat": now,
            "exp": now + 600,
            "jti": "token_1",
            "sid": f"session_{user}",
            "tenantId": tenant,
            "roles": ["teacher"],
            "permissions": ["student.read"],
            "name": "测试老师",
        } | claims
        key = OctKey.import_key(SECRET)
        return str(jwt.encode({"alg": "HS256", "typ": "JWT", "kid": "k1"}, payload, key))

    def bearer(self, user: str = "user_1", tenant: str = "a", **claims: Any) -> str:
        return f"Authorization: Bearer {self.token(user, tenant, **claims)}"


@asynccontextmanager
async def edge(
    app: ASGIApp | None = None,
    *,
    upstream: Upstream | None = None,
    routes: str = ROUTES,
    limits: Limits | None = None,
    websocket: UpgradeHandler | None = None,
    trusted_proxies: tuple[str, ...] = (),
    openapi: Mapping[str, Any] | None = None,
    bad_tokens_per_minute: int = PER_MINUTE,
) -> AsyncIterator[Edge]:
    clock = SystemClock()
    tenants, revocations, observer = Tenants(), MemoryRevocations(clock), Finished()
    identity = InternalIdentity(b"i" * 32, clock)
    ready = [True]

    async def is_ready() -> bool:
        return ready[0]

    async def describe() -> Mapping[str, Any]:
        return openapi or _DOCUMENT

    gateway = Gateway(
        RouteTable.load(routes),
        {"svc": upstream or AsgiUpstream(app or Recorder())},
        verifier=AccessTokenVerifier({"k1": SECRET}, clock),
        revocations=revocations,
        identity=identity,
        directory=tenants,
        limiter=MemoryRateLimiter(clock),
        clock=clock,
        pages=Pages(describe, is_ready),
        websocket=websocket,
        trusted_proxies=TrustedProxies(trusted_proxies),
        bad_tokens_per_minute=bad_tokens_per_minute,
    )
    server = GatewayServer(gateway, observer, limits, gateway.is_trusted_proxy)
    port = await server.start("127.0.0.1", 0)
    try:
        yield Edge(port, gateway, server, tenants, revocations, identity, observer, ready)
    finally:
        await server.stop(drain_s=1)


def parse(data: bytes) -> list[Answer]:
    """The HTTP/1.1 responses in ``data``; 1xx ones have no body."""
    answers = []
    while data:
        head, separator, data = data.partition(b"\r\n\r\n")
        assert separator, f"half a response: {head!r}"
        status_line, *lines = head.decode("latin-1").split("\r\n")
        status = int(status_line.split(" ")[1])
        headers: dict[str, str] = {}
        for line in lines:
            name, _, value = line.partition(": ")
            assert name not in headers, f"{name} twice"
            headers[name] = value
        body, data = _body(status, headers, data)
        answers.append(Answer(status, headers, body))
    return answers


def _body(status: int, headers: dict[str, str], data: bytes) -> tuple[bytes, bytes]:
    if status < 200 or status in (204, 304):
        return b"", data
    if headers.get("transfer-encoding") == "chunked":
        return _dechunk(data)
    size = int(headers.get("content-length", len(data)))
    return data[:size], data[size:]


def _dechunk(data: bytes) -> tuple[bytes, bytes]:
    body = b""
    while True:
        size, _, data = data.partition(b"\r\n")
        length = int(size, 16)
        body, data = body + data[:length], data[length + 2 :]
        if length == 0:
            return body, data


def run(scenario: Callable[[], Any]) -> None:
    """On the event loop that the launcher installs."""
    uvloop.run(asyncio.wait_for(scenario(), 30))
