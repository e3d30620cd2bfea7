"""The base of every service's HTTP application.

It restores the request's context from the gateway's headers, opens the tenant scope, and renders
every error as the envelope. Routes contain none of that.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec
import structlog
from litestar import Litestar, Request, Response
from litestar.config.app import AppConfig
from litestar.exceptions import (
    HTTPException,
    MethodNotAllowedException,
    NotFoundException,
    SerializationException,
    ValidationException,
)
from litestar.exceptions.http_exceptions import ClientException
from litestar.openapi.config import OpenAPIConfig
from litestar.types import ControllerRouterHandler, Receive, Scope, Send
from litestar.utils.scope.state import ScopeState

from yuanlian.kit.context import RequestContext, current, serving
from yuanlian.kit.envelope import STATUS, Envelope, encode, failure, success
from yuanlian.kit.errors import (
    AppError,
    AuthenticationError,
    AuthorizationError,
    FieldError,
    InternalError,
    MethodNotAllowedError,
    NotFoundError,
    PayloadTooLargeError,
    ValidationError,
)
from yuanlian.kit.http.bodies import MALFORMED, MISSING, explain, translate
from yuanlian.kit.i18n import Text, negotiate
from yuanlian.kit.identity.internal import HEADER, InternalIdentity
from yuanlian.kit.identity.principal import Principal
from yuanlian.kit.ids import new_id
from yuanlian.kit.tenancy.scope import tenant_scope

T = TypeVar("T")
_log = structlog.get_logger("http")
_MISSING_PARAMETER = re.compile(r"Missing required \w+ parameter '([^']+)'")


def reply(data: T, status: int = 200) -> Response[Envelope[T]]:
    """A successful answer in the envelope."""
    return Response(success(data, status), status_code=status)


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


def service_app(
    name: str, handlers: Sequence[ControllerRouterHandler], identity: InternalIdentity
) -> ServiceApp:
    """An ASGI application for ``handlers``; its ``litestar`` attribute has the OpenAPI document."""
    litestar = Litestar(
        route_handlers=list(handlers),
        exception_handlers={
            AppError: _app_error,
            ValidationException: _invalid,
            SerializationException: _malformed,
            # Both are client errors to Litestar, but no route was found whose body could be explained.
            NotFoundException: _http_error,
            MethodNotAllowedException: _http_error,
            ClientException: _client_error,
            HTTPException: _http_error,
            RecursionError: _too_deep,
            Exception: _unexpected,
        },
        openapi_config=OpenAPIConfig(title=name, version="v1", path=None, render_plugins=[]),
        on_app_init=[_quiet],
    )
    return ServiceApp(litestar, identity)


def _quiet(config: AppConfig) -> AppConfig:
    config.logging_config = None
    return config


class ServiceApp:
    """Sets the stage for each request, then lets Litestar play."""

    def __init__(self, litestar: Litestar, identity: InternalIdentity) -> None:
        self.litestar = litestar
        self._identity = identity

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        request_id = headers.get(b"x-request-id", b"").decode("latin-1") or new_id("req")
        locale = negotiate(headers.get(b"accept-language", b"").decode("latin-1"))
        token = headers.get(HEADER.encode())
        try:
            principal = self._identity.read(token.decode("latin-1")) if token else None
        except AuthenticationError as error:
            with serving(RequestContext(request_id, locale)) as context:
                await _send_error(error, context, send)
            return
        with serving(RequestContext(request_id, locale, principal)):
            if principal is None:
                await self.litestar(scope, receive, send)
                return
            with tenant_scope(principal.tenant_id):
                await self.litestar(scope, receive, send)


async def _send_error(error: AppError, context: RequestContext, send: Send) -> None:
    body = encode(failure(error, context))
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": STATUS[error.code], "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})


def _render(error: AppError) -> Response[Any]:
    body = failure(error)
    return Response(body, status_code=body.code, headers=dict(error.headers))


def _app_error(_request: Request[Any, Any, Any], error: AppError) -> Response[Any]:
    return _render(error)


def _invalid(request: Request[Any, Any, Any], error: ValidationException) -> Response[Any]:
    explained = _explained(request)
    if explained is not None and explained.details:
        return _render(explained)
    if missing := _MISSING_PARAMETER.search(error.detail):
        return _render(ValidationError(details=[FieldError(missing.group(1), MISSING)]))
    extra = error.extra if isinstance(error.extra, list) else []
    return _render(ValidationError(details=[_parameter(request, item) for item in extra]))


def _parameter(request: Request[Any, Any, Any], item: dict[str, Any]) -> FieldError:
    key = str(item.get("key", ""))
    declared = request.route_handler.parsed_fn_signature.parameters.get(key)
    # Clients know a parameter by its wire name, not by the handler's argument.
    name = getattr(declared and declared.kwarg_definition, "name", None) or key
    return FieldError(name, translate(str(item.get("message", "")), name).message)


def _malformed(request: Request[Any, Any, Any], _error: SerializationException) -> Response[Any]:
    return _render(_explained(request) or ValidationError(details=[FieldError("", MALFORMED)]))


def _explained(request: Request[Any, Any, Any]) -> AppError | None:
    """What is wrong with the body, when the route takes one and Litestar has read it."""
    field = request.route_handler.parsed_data_field
    body = ScopeState.from_scope(request.scope).body
    if field is None or not isinstance(body, bytes):
        return None
    return explain(body, field.annotation)


def _client_error(request: Request[Any, Any, Any], error: ClientException) -> Response[Any]:
    if error.status_code == 413:
        return _render(PayloadTooLargeError())
    # Litestar reports a body that is no JSON at all as a plain client error.
    return _render(_explained(request) or ValidationError(details=[FieldError("", MALFORMED)]))


def _http_error(request: Request[Any, Any, Any], error: HTTPException) -> Response[Any]:
    if isinstance(error, NotFoundException):
        return _render(NotFoundError(Text("接口不存在", "No such endpoint")))
    if isinstance(error, MethodNotAllowedException):
        return _render(MethodNotAllowedError(headers=[("allow", ", ".join(_allowed(request)))]))
    if error.status_code < 500:
        return _render(ValidationError())
    return _unexpected(request, error)


def _allowed(request: Request[Any, Any, Any]) -> list[str]:
    """The methods of the path's route (RFC 9110 §15.5.6 wants them in ``Allow``)."""
    asked = request.url.path.strip("/").split("/")
    for route in request.app.routes:
        known = route.path.strip("/").split("/")
        if len(known) == len(asked) and all(
            k == a or k.startswith("{") for k, a in zip(known, asked, strict=True)
        ):
            return sorted(getattr(route, "methods", ()))
    return []


def _too_deep(request: Request[Any, Any, Any], error: RecursionError) -> Response[Any]:
    """JSON nested deeper than any of ours; unless the body is fine and the recursion is our own."""
    explained = _explained(request)
    if explained is not None and explained.details:
        return _render(explained)
    return _unexpected(request, error)


def _unexpected(request: Request[Any, Any, Any], error: Exception) -> Response[Any]:
    if isinstance(error, msgspec.ValidationError):
        return _render(ValidationError(details=[translate(str(error))]))
    _log.error("unexpected error", path=request.url.path, exc_info=error)
    return _render(InternalError())
