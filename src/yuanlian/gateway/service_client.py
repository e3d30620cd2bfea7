"""Calls to services, wherever they are. Implements ``kit.http.client.ServiceClient``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

import msgspec

from yuanlian.gateway.http import Headers
from yuanlian.gateway.upstreams.asgi import ASGIApp, AsgiUpstream
from yuanlian.gateway.upstreams.sink import Collector
from yuanlian.gateway.upstreams.upstream import Upstream, UpstreamRequest
from yuanlian.kit import errors
from yuanlian.kit.context import current
from yuanlian.kit.envelope import encode
from yuanlian.kit.errors import AppError, BadGatewayError, FieldError, ServiceUnavailableError
from yuanlian.kit.i18n import Text
from yuanlian.kit.identity.internal import InternalIdentity
from yuanlian.kit.identity.principal import Principal

_TIMEOUT_S = 30.0
_RETRIES = 2
"""Of what is idempotent, by an upstream over HTTP."""
_ERRORS: dict[str, type[AppError]] = {
    kind.code.value: kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, AppError) and kind is not AppError
}


class _Detail(msgspec.Struct):
    field: str
    message: str


class _Error(msgspec.Struct):
    code: str
    details: list[_Detail] = []


class _Answer(msgspec.Struct):
    """Either side of the envelope."""

    success: bool
    message: str
    data: Any = None
    error: _Error | None = None


_decoder = msgspec.json.Decoder(_Answer)


class UpstreamClient:
    """``upstreams``: by service name."""

    def __init__(
        self,
        upstreams: Mapping[str, Upstream],
        identity: InternalIdentity,
        timeout_s: float = _TIMEOUT_S,
    ) -> None:
        self._upstreams = upstreams
        self._identity = identity
        self._timeout_s = timeout_s

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
        upstream = self._upstreams.get(service)
        if upstream is None:
            raise ServiceUnavailableError
        body = encode({"data": data}) if data is not None else b""
        request = UpstreamRequest(
            method=method,
            path=path,
            raw_path=path.encode(),
            query=urlencode(query or {}).encode(),
            headers=self._headers(principal, body),
            body=body,
            client=("127.0.0.1", 0),
            scheme="http",
            timeout_s=self._timeout_s,
            retries=_RETRIES,
        )
        sink = Collector()
        await upstream.forward(request, sink)
        return _data(sink.body())

    def _headers(self, principal: Principal, body: bytes) -> Headers:
        context = current()
        headers: Headers = [
            (b"host", b"services.internal"),
            (b"x-identity", self._identity.sign(principal).encode("ascii")),
            (b"x-tenant-id", principal.tenant_id.encode()),
            (b"x-request-id", context.request_id.encode("ascii")),
            (b"accept-language", context.locale.encode("ascii")),
        ]
        if body:
            headers.append((b"content-type", b"application/json"))
            headers.append((b"content-length", b"%d" % len(body)))
        return headers


class InProcessClient(UpstreamClient):
    """``apps``: ASGI applications by service name; services that call each other are added later."""

    def __init__(self, apps: Mapping[str, ASGIApp], identity: InternalIdentity) -> None:
        self._local: dict[str, Upstream] = {name: AsgiUpstream(app) for name, app in apps.items()}
        super().__init__(self._local, identity)

    def add(self, service: str, app: ASGIApp) -> None:
        self._local[service] = AsgiUpstream(app)


def _data(body: bytes) -> Any:
    """``data`` of a successful envelope; otherwise raises the error it carries."""
    try:
        answer = _decoder.decode(body)
    except msgspec.DecodeError:
        raise BadGatewayError from None
    if answer.success:
        return answer.data
    code = answer.error.code if answer.error else ""
    details = answer.error.details if answer.error else []
    kind = _ERRORS.get(code, BadGatewayError)
    # The other service answered in the caller's language already: both sides of the text say that.
    raise kind(
        Text(answer.message, answer.message),
        [FieldError(detail.field, Text(detail.message, detail.message)) for detail in details],
    )
