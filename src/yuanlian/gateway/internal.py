"""The listener of services behind gateways in other processes. Never public: it believes its peers about
where a request came from. Who is asking, it believes of nobody: services verify ``X-Identity``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from yuanlian.contracts.edge import OPENAPI_PATH
from yuanlian.gateway.http import Request, Response, tokens
from yuanlian.gateway.limits import Limits
from yuanlian.gateway.paths import SafePath, safe_path
from yuanlian.gateway.response import ResponseWriter
from yuanlian.gateway.upgrade import UpgradeHandler
from yuanlian.gateway.upstreams.upstream import Upstream, UpstreamRequest
from yuanlian.kit.envelope import encode, success
from yuanlian.kit.errors import AuthenticationError, AuthorizationError, NotFoundError
from yuanlian.kit.identity.internal import HEADER, InternalIdentity

WEBSOCKET_PATH = b"/ws"
LIMITS = Limits(head_bytes=64 * 1024, headers=150, target_bytes=32 * 1024)
"""Whatever a gateway lets through, written its way (``<`` as ``%3C``) and with all that it adds."""
LONGEST_BODY = 1 << 40
LONGEST_S = 3600.0
"""The gateway's route has the limit that counts, for either."""
EVERY_NETWORK = ("0.0.0.0/0", "::/0")
"""Whose word about a request's origin counts there, as of trusted proxies."""
_IDENTITY = HEADER.encode()
_JSON = [(b"content-type", b"application/json"), (b"cache-control", b"no-store")]
_ALIVE = Response(200, _JSON, b'{"status":"ok"}')
_UNAVAILABLE = Response(503, _JSON, b'{"status":"unavailable"}')


QUIET = ("/healthz", "/readyz", "/internal/")
"""Routes that gateways and other services ask all the time."""


class InternalEdge:
    """Implements ``Handler``. ``services``: by the first two segments of their paths (``api/tenant``).
    ``describe``: all of them in one OpenAPI document, for the gateway's ``/docs``; only a part of the
    platform is shown it. ``ready``: as for the gateway's health checks.
    """

    def __init__(
        self,
        services: Mapping[str, Upstream],
        identity: InternalIdentity,
        *,
        describe: Callable[[], Awaitable[Mapping[str, Any]]],
        ready: Callable[[], Awaitable[bool]],
        websocket: UpgradeHandler | None = None,
    ) -> None:
        self._services = services
        self._identity = identity
        self._describe = describe
        self._ready = ready
        self._websocket = websocket

    def body_limit(self, request: Request) -> int:
        del request
        return LONGEST_BODY

    def upgrade(self, request: Request) -> UpgradeHandler | None:
        asks = request.method == "GET" and request.path == WEBSOCKET_PATH
        if asks and b"websocket" in tokens(request.first.get(b"upgrade", b"")):
            return self._websocket
        return None

    async def handle(self, request: Request, response: ResponseWriter) -> None:
        path = safe_path(request.path)
        if path.text in ("/healthz", "/readyz", OPENAPI_PATH):
            request.route = path.text
        if path.text == "/healthz":
            response.send(_ALIVE)
        elif path.text == "/readyz":
            response.send(_ALIVE if await self._ready() else _UNAVAILABLE)
        elif path.text == OPENAPI_PATH:
            self._require_system(request)
            response.send(Response(200, _JSON, encode(success(await self._describe()))))
        else:
            await self._serve(path, request, response)

    async def _serve(self, path: SafePath, request: Request, response: ResponseWriter) -> None:
        prefix = "/".join(path.text.split("/", 3)[1:3])
        service = self._services.get(prefix)
        if service is None:
            raise NotFoundError
        request.route = f"/{prefix}/**"
        request.tenant_id = request.first.get(b"x-tenant-id", b"").decode("latin-1")
        request.outgoing = UpstreamRequest(
            method=request.method,
            path=path.text,
            raw_path=path.normal,
            query=request.query,
            headers=request.headers,
            body=request.body,
            client=(_origin(request), request.client[1]),
            scheme=request.first.get(b"x-forwarded-proto", b"http").decode("latin-1"),
            timeout_s=LONGEST_S,
        )
        await service.forward(request.outgoing, response)

    def _require_system(self, request: Request) -> None:
        token = request.first.get(_IDENTITY)
        if token is None:
            raise AuthenticationError
        if not self._identity.read(token).is_system:
            raise AuthorizationError


def _origin(request: Request) -> str:
    """The client's address: the gateway's chain begins with it."""
    chain = request.first.get(b"x-forwarded-for", b"").decode("latin-1")
    return chain.partition(",")[0].strip() or request.client[0]
