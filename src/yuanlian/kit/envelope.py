"""The one shape of every JSON answer and every JSON request body.

Source: specification "HTTP/HTTPS RESTful API", CONTRACT §3.
"""

from __future__ import annotations

from typing import Any, Generic, TypeVar

import msgspec

from yuanlian.kit.clock import SystemClock
from yuanlian.kit.context import RequestContext, current
from yuanlian.kit.errors import AppError, ErrorCode
from yuanlian.kit.i18n import Text

T = TypeVar("T")

OK = Text("操作成功", "OK")

STATUS: dict[ErrorCode, int] = {
    ErrorCode.VALIDATION_ERROR: 400,
    ErrorCode.TENANT_REQUIRED: 400,
    ErrorCode.AUTHENTICATION_ERROR: 401,
    ErrorCode.AUTHORIZATION_ERROR: 403,
    ErrorCode.NOT_FOUND: 404,
    ErrorCode.METHOD_NOT_ALLOWED: 405,
    ErrorCode.CONFLICT: 409,
    ErrorCode.PAYLOAD_TOO_LARGE: 413,
    ErrorCode.RATE_LIMITED: 429,
    ErrorCode.INTERNAL_ERROR: 500,
    ErrorCode.BAD_GATEWAY: 502,
    ErrorCode.SERVICE_UNAVAILABLE: 503,
    ErrorCode.GATEWAY_TIMEOUT: 504,
}

_clock = SystemClock()
_encoder = msgspec.json.Encoder()


class RequestMeta(msgspec.Struct, omit_defaults=True):
    """``meta`` of a request; clients may send more, we read no more."""

    timestamp: int | None = None
    version: str | None = None


class Body(msgspec.Struct, Generic[T], forbid_unknown_fields=True):
    """A request body: ``{"data": {...}, "meta": {...}}``."""

    data: T
    meta: RequestMeta | None = None


class Meta(msgspec.Struct):
    timestamp: int
    requestId: str
    duration: int


class Envelope(msgspec.Struct, Generic[T]):
    """A successful answer; ``code`` equals the HTTP status."""

    success: bool
    code: int
    message: str
    data: T
    meta: Meta


class Page(msgspec.Struct, Generic[T]):
    """A list: ``nextCursor`` is null on the last page; ``total`` is null where counting is not cheap."""

    items: list[T]
    nextCursor: str | None = None
    total: int | None = None


class ErrorDetail(msgspec.Struct):
    field: str
    message: str


class ErrorBody(msgspec.Struct):
    type: str
    code: str
    details: list[ErrorDetail]


class ErrorEnvelope(msgspec.Struct):
    success: bool
    code: int
    message: str
    error: ErrorBody
    meta: Meta


def meta(context: RequestContext) -> Meta:
    return Meta(_clock.now_ms(), context.request_id, context.duration_ms)


def success(data: T, status: int = 200, message: Text = OK) -> Envelope[T]:
    context = current()
    return Envelope(True, status, message.render(context.locale), data, meta(context))


def failure(error: AppError, context: RequestContext | None = None) -> ErrorEnvelope:
    """The envelope of an expected error, in the caller's language."""
    context = context or current()
    details = [ErrorDetail(d.field, d.message.render(context.locale)) for d in error.details]
    return ErrorEnvelope(
        success=False,
        code=STATUS[error.code],
        message=error.message.render(context.locale),
        error=ErrorBody(error.type, error.code.value, details),
        meta=meta(context),
    )


def encode(value: Any) -> bytes:
    return _encoder.encode(value)
