"""The base of every service's HTTP application.

It restores the request's context from the gateway's headers, opens the tenant scope, and renders
every error as the envelope. Routes contain none of that.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TypeVar

from litestar import Litestar, Response
from litestar.config.app import AppConfig
from litestar.openapi.config import OpenAPIConfig
from litestar.types import ControllerRouterHandler, HTTPScope, Receive, Send

from yuanlian.kit.context import RequestContext, current, enter, leave
from yuanlian.kit.envelope import Envelope
from yuanlian.kit.errors import AuthenticationError, AuthorizationError
from yuanlian.kit.http.express import lanes, replay
from yuanlian.kit.http.rendering import Reply, exception_handlers, send_error
from yuanlian.kit.i18n import Locale, negotiate
from yuanlian.kit.identity.internal import HEADER, InternalIdentity
from yuanlian.kit.identity.principal import Principal
from yuanlian.kit.ids import new_id
from yuanlian.kit.tenancy.scope import enter_tenant, leave_tenant

T = TypeVar("T")
_IDENTITY = HEADER.encode()
_OURS = ("/api/", "/internal/")


def reply(data: T, status: int = 200) -> Response[Envelope[T]]:
    """A successful answer in the envelope."""
    return Reply(data, status)


def caller() -> Principal:
    """The verified principal of this request.

    Raises:
        AuthenticationError: the route was reached without one.
    """
    principal = current().principal
    if principal is None:
        raise AuthenticationError
    return principal


def require(permission: str) -> Principal:
    """The caller, who holds ``permission`` at least under a condition; the service decides that
    condition where it has the resource at hand.

    Raises:
        AuthenticationError, AuthorizationError
    """
    principal = caller()
    if not principal.holds(permission):
        raise AuthorizationError
    return principal


def require_system() -> None:
    """Only a part of the platform itself may ask.

    Raises:
        AuthenticationError, AuthorizationError
    """
    if not caller().is_system:
        raise AuthorizationError


def service_app(
    name: str, handlers: Sequence[ControllerRouterHandler], identity: InternalIdentity
) -> ServiceApp:
    """An ASGI application for ``handlers``; its ``litestar`` attribute has the OpenAPI document."""
    litestar = Litestar(
        route_handlers=list(handlers),
        exception_handlers=exception_handlers(),
        openapi_config=OpenAPIConfig(title=name, version="v1", path=None, render_plugins=[]),
        on_app_init=[_quiet],
    )
    return ServiceApp(litestar, identity)


def _quiet(config: AppConfig) -> AppConfig:
    config.logging_config = None
    return config


class ServiceApp:
    """Sets the stage for each request, then lets Litestar play. An operation with an express lane is
    played without Litestar, as long as nothing about the request is unusual."""

    def __init__(self, litestar: Litestar, identity: InternalIdentity) -> None:
        self.litestar = litestar
        self._identity = identity
        self._lanes = lanes(litestar)

    @property
    def paths(self) -> list[str]:
        """Of all operations; the framework's own are none."""
        return [route.path for route in self.litestar.routes if route.path.startswith(_OURS)]

    async def __call__(self, scope: HTTPScope, receive: Receive, send: Send) -> None:
        pairs = list(scope["headers"])
        headers = dict(pairs)
        sent_id = headers.get(b"x-request-id")
        request_id = sent_id.decode("latin-1") if sent_id else new_id("req")
        locale = _locale(headers.get(b"accept-language", b"")[:200])
        token = headers.get(_IDENTITY)
        try:
            principal = self._identity.read(token) if token else None
        except AuthenticationError as error:
            await send_error(error, RequestContext(request_id, locale), send)
            return
        # ``with serving(…), tenant_scope(…)`` costs four generators, once per request.
        outside, elsewhere = enter(RequestContext(request_id, locale, principal)), None
        try:
            if principal is not None:
                elsewhere = enter_tenant(principal.tenant_id)
            lane = self._lanes.get((scope["method"], scope["path"]))
            unrepeated = len(headers) == len(pairs)
            if lane is not None and unrepeated and lane.suits(scope["query_string"], headers):
                message = await receive()
                if await lane.answer(message, headers, send):
                    return
                receive = replay(message, receive)
            await self.litestar(scope, receive, send)
        finally:
            if elsewhere is not None:
                leave_tenant(elsewhere)
            leave(outside)


@lru_cache(maxsize=256)
def _locale(accept_language: bytes) -> Locale:
    return negotiate(accept_language.decode("latin-1"))
