"""The admin listener, never public: metrics, health in detail, routes, instances. CONTRACT §2."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from yuanlian.gateway.http import Headers, Request, Response
from yuanlian.gateway.response import ResponseWriter
from yuanlian.gateway.routes import Route, RouteTable
from yuanlian.gateway.upgrade import UpgradeHandler
from yuanlian.kit.envelope import encode
from yuanlian.kit.errors import MethodNotAllowedError, NotFoundError
from yuanlian.kit.i18n import Text
from yuanlian.kit.registry.registry import Registry

_NO_PAGE = Text("接口不存在", "No such endpoint")
_JSON: Headers = [(b"content-type", b"application/json"), (b"cache-control", b"no-store")]
_METRICS: Headers = [(b"content-type", b"text/plain; version=0.0.4; charset=utf-8")]


class Admin:
    """Implements ``Handler``. ``metrics``: the Prometheus text. ``health``: the specification's
    ``HealthStatus``, whose ``status`` other than ``healthy`` makes a 503. ``table``: asked each time."""

    def __init__(
        self,
        *,
        metrics: Callable[[], Awaitable[bytes]],
        health: Callable[[], Awaitable[Mapping[str, Any]]],
        table: Callable[[], RouteTable],
        registry: Registry,
    ) -> None:
        self._metrics = metrics
        self._health = health
        self._table = table
        self._registry = registry
        self._pages: dict[bytes, Callable[[], Awaitable[Response]]] = {
            b"/metrics": self._show_metrics,
            b"/health": self._show_health,
            b"/routes": self._show_routes,
            b"/services": self._show_services,
        }

    def showing(
        self,
        *,
        metrics: Callable[[], Awaitable[bytes]],
        health: Callable[[], Awaitable[Mapping[str, Any]]],
    ) -> Admin:
        """The same about others: those of several processes, say."""
        return Admin(metrics=metrics, health=health, table=self._table, registry=self._registry)

    def body_limit(self, request: Request) -> int:
        del request  # nothing here reads a body
        return 0

    def upgrade(self, request: Request) -> UpgradeHandler | None:
        del request  # nothing here leaves HTTP
        return None

    async def handle(self, request: Request, response: ResponseWriter) -> None:
        page = self._pages.get(request.path)
        if page is None:
            raise NotFoundError(_NO_PAGE)
        request.route = request.path.decode("ascii")
        if request.method not in ("GET", "HEAD"):
            raise MethodNotAllowedError(headers=[("allow", "GET, HEAD")])
        response.send(await page())

    async def _show_metrics(self) -> Response:
        return Response(200, _METRICS, await self._metrics())

    async def _show_health(self) -> Response:
        health = await self._health()
        return Response(200 if health.get("status") == "healthy" else 503, _JSON, encode(health))

    async def _show_routes(self) -> Response:
        return Response(200, _JSON, encode({"routes": [_route(route) for route in self._table().routes]}))

    async def _show_services(self) -> Response:
        return Response(200, _JSON, encode({"services": await self._registry.services()}))


def _route(route: Route) -> dict[str, Any]:
    limit = route.rate_limit
    return {
        "path": route.path,
        "service": route.service,
        "methods": sorted(route.methods),
        "auth": route.auth,
        "rateLimit": {"max": limit[0], "windowMs": limit[1]} if limit else None,
        "limitBy": route.limit_by,
        "timeoutMs": int(route.timeout_s * 1000),
        "maxBodyBytes": route.max_body_bytes,
        "retries": route.retries,
        "upgrade": sorted(protocol.decode() for protocol in route.upgrade),
        "cors": route.cors.rule if route.cors else None,
    }
