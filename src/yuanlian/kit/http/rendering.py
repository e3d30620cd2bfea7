"""What an operation returns or raises, as the envelope. CONTRACT §3."""

from __future__ import annotations

import re
from typing import Any, TypeVar

import msgspec
import structlog
from litestar import Litestar, Request, Response
from litestar.exceptions import (
    HTTPException,
    MethodNotAllowedException,
    NotFoundException,
    SerializationException,
    ValidationException,
)
from litestar.exceptions.http_exceptions import ClientException
from litestar.response.base import ASGIResponse
from litestar.serialization import default_serializer
from litestar.types import ExceptionHandlersMap, Send
from litestar.utils.scope.state import ScopeState

from yuanlian.kit.context import RequestContext
from yuanlian.kit.envelope import STATUS, Envelope, encode, failure, success
from yuanlian.kit.errors import (
    AppError,
    FieldError,
    InternalError,
    MethodNotAllowedError,
    NotFoundError,
    PayloadTooLargeError,
    ValidationError,
)
from yuanlian.kit.http.bodies import MALFORMED, MISSING, explain, translate
from yuanlian.kit.i18n import Text

T = TypeVar("T")
_log = structlog.get_logger("http")
_encoder = msgspec.json.Encoder(enc_hook=default_serializer)  # as Litestar's own
_MISSING_PARAMETER = re.compile(r"Missing required \w+ parameter '([^']+)'")


class Reply(Response[Envelope[T]]):
    """``data`` in the envelope. What Litestar wants of a response is made when Litestar asks for it."""

    __slots__ = ("_data", "_status")

    def __init__(self, data: T, status: int) -> None:
        self._data = data
        self._status = status

    def encoded(self) -> tuple[int, bytes]:
        """Status and body."""
        return self._status, _encoder.encode(success(self._data, self._status))

    def to_asgi_response(
        self, app: Litestar | None, request: Request[Any, Any, Any], **options: Any
    ) -> ASGIResponse:
        super().__init__(success(self._data, self._status), status_code=self._status)
        return super().to_asgi_response(app, request, **options)


def json_head(body: bytes) -> list[tuple[bytes, bytes]]:
    return [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]


async def send_error(error: AppError, context: RequestContext, send: Send) -> None:
    """Answers with the error's envelope, outside Litestar."""
    body = encode(failure(error, context))
    headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in error.headers]
    await send(
        {"type": "http.response.start", "status": STATUS[error.code], "headers": headers + json_head(body)}
    )
    await send({"type": "http.response.body", "body": body, "more_body": False})


def exception_handlers() -> ExceptionHandlersMap:
    """What Litestar calls for each kind of error."""
    return {
        AppError: _app_error,
        ValidationException: _invalid,
        SerializationException: _malformed,
        # Both are client errors to Litestar, but no route was found whose body could be explained.
        NotFoundException: _http_error,
        MethodNotAllowedException: _http_error,
        ClientException: _client_error,
        HTTPException: _http_error,
        RecursionError: _unreadable,
        UnicodeDecodeError: _unreadable,
        Exception: _unexpected,
    }


def as_app_error(error: Exception, path: str) -> AppError:
    """What the caller is told about an error that an operation raised; the unexpected is logged."""
    if isinstance(error, AppError):
        return error
    if isinstance(error, msgspec.ValidationError):
        return ValidationError(details=[translate(str(error))])
    _log.error("unexpected error", path=path, exc_info=error)
    return InternalError()


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
    scope: dict[str, Any] = {**request.scope}
    if "route_handler" not in scope:
        return None  # refused before a route was found
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


def _unreadable(request: Request[Any, Any, Any], error: Exception) -> Response[Any]:
    """JSON nested deeper than any of ours, or text that is no UTF-8; unless the body is fine and the
    error is our own."""
    explained = _explained(request)
    if explained is not None and explained.details:
        return _render(explained)
    return _unexpected(request, error)


def _unexpected(request: Request[Any, Any, Any], error: Exception) -> Response[Any]:
    return _render(as_app_error(error, request.url.path))
