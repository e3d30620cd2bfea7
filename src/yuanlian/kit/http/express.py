"""The express lane: an operation that is asked thousands of times a second, without the framework.

    @post("/api/things", summary="Make a thing", express=True)
    async def make(data: Body[ThingIn], key: IdempotencyKey = None) -> Response[Envelope[ThingOut]]: …

Litestar still owns the route: its document, its checks, its errors. The lane decodes the body with a
decoder made beforehand, calls the same function, and encodes its ``reply``. It takes only what is
certain to be read in the same way by Litestar; everything else, and whatever it cannot read, goes to
Litestar with the body that was received. What the function raises is rendered by the same code.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Generic, TypeVar, get_args, get_origin

import msgspec
from litestar import Litestar
from litestar.handlers import HTTPRouteHandler
from litestar.params import HeaderParameter
from litestar.types import Receive, Send

from yuanlian.kit.context import current
from yuanlian.kit.envelope import Body, RequestMeta
from yuanlian.kit.http.rendering import as_app_error, json_head, send_error

T = TypeVar("T")

LONGEST = 64 * 1024
"""Bytes of a body. Longer ones take long anyway, and Litestar has a limit for them."""
_LAYERS = (
    "after_response",
    "before_request",
    "dependencies",
    "guards",
    "middleware",
    "response_cookies",
    "response_headers",
)
_JSON = frozenset({b"application/json", b"application/json; charset=utf-8"})


class _Meta(RequestMeta, forbid_unknown_fields=True):
    """Litestar reads unknown fields, then ignores them; skipping them would let broken JSON pass."""


class _Body(Body[T], Generic[T], forbid_unknown_fields=True):
    meta: _Meta | None = None


class Lane:
    """One operation. Raises ``TypeError`` when made for a handler that it could not stand in for."""

    def __init__(self, path: str, handler: HTTPRouteHandler) -> None:
        parameters = dict(handler.parsed_fn_signature.parameters)
        data = _data_of(path, handler, parameters.pop("data", None))
        types = {field.name: field.type for field in msgspec.structs.fields(handler.signature_model)}
        self._path = path
        self._function: Callable[..., Awaitable[Any]] = handler.fn
        self._decoder = msgspec.json.Decoder(_Body[data])  # type: ignore[valid-type] # known at run time only
        self._parameters: list[tuple[str, bytes, Any]] = []
        for name, field in parameters.items():
            if not isinstance(field.kwarg_definition, HeaderParameter) or field.is_required:
                raise TypeError(f"{handler}: an express operation takes a body and optional headers")
            header = field.kwarg_definition.name or name.replace("_", "-")
            self._parameters.append((name, header.lower().encode("ascii"), types[name]))

    def suits(self, query: bytes, headers: Mapping[bytes, bytes]) -> bool:
        """Whether the head is as usual. ``headers``: by lower-case name, none of them repeated."""
        return not query and headers.get(b"content-type") in _JSON

    async def answer(self, message: Any, headers: Mapping[bytes, bytes], send: Send) -> bool:
        """Answers, or returns False: then nothing has happened."""
        try:
            arguments = self._arguments(message, headers)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return False
        if arguments is None:
            return False
        try:
            status, body = (await self._function(**arguments)).encoded()
        except Exception as error:  # noqa: BLE001 - as in Litestar, every error is an answer
            await send_error(as_app_error(error, self._path), current(), send)
            return True
        await send({"type": "http.response.start", "status": status, "headers": json_head(body)})
        await send({"type": "http.response.body", "body": body, "more_body": False})
        return True

    def _arguments(self, message: Any, headers: Mapping[bytes, bytes]) -> dict[str, Any] | None:
        if message["type"] != "http.request" or message.get("more_body"):
            return None
        body = message.get("body", b"")
        if len(body) > LONGEST or headers.get(b"content-length", b"%d" % len(body)) != b"%d" % len(body):
            return None
        arguments = {"data": self._decoder.decode(body)}
        for name, header, type_ in self._parameters:
            value = headers.get(header)
            if value is not None:
                arguments[name] = msgspec.convert(value.decode("latin-1"), type_, strict=False)
        return arguments


def lanes(litestar: Litestar) -> dict[tuple[str, str], Lane]:
    """The lanes of the operations declared with ``express=True``, by method and path."""
    return {
        (method, route.path): Lane(route.path, handler)
        for route in litestar.routes
        for handler in getattr(route, "route_handlers", ())
        if handler.opt.get("express")
        for method in handler.http_methods
    }


def replay(message: Any, receive: Receive) -> Receive:
    """``receive`` as it was before ``message`` was taken from it."""
    pending = [message]

    async def again() -> Any:
        return pending.pop() if pending else await receive()

    return again


def _data_of(path: str, handler: HTTPRouteHandler, body: Any) -> Any:
    """The type of ``data`` in the body of an operation that a lane can stand in for."""
    if body is None or get_origin(body.annotation) is not Body or "{" in path:
        raise TypeError(f"{handler}: an express operation takes Body[…] at a fixed path")
    (data,) = get_args(body.annotation)
    if _skips_fields(data):
        raise TypeError(f"{handler}: the structs of an express body forbid unknown fields")
    if any(getattr(handler, f"resolve_{layer}")() for layer in _LAYERS):
        raise TypeError(f"{handler}: an express operation has none of {', '.join(_LAYERS)}")
    return data


def _skips_fields(type_: Any) -> bool:
    """Whether a decoder of the type would pass over parts of the JSON without reading them."""
    _, schemas = msgspec.json.schema_components([type_])
    objects = [schema for schema in schemas.values() if "properties" in schema]
    return any(schema.get("additionalProperties", True) for schema in objects)
