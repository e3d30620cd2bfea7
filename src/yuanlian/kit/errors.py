"""Expected errors. Each has a stable code; only ``kit/http`` and the gateway turn it into a status.

Source: specification "统一错误处理", CONTRACT §3.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import ClassVar, NamedTuple

from yuanlian.kit.i18n import Text


class ErrorCode(StrEnum):
    VALIDATION_ERROR = "VALIDATION_ERROR"
    TENANT_REQUIRED = "TENANT_REQUIRED"
    AUTHENTICATION_ERROR = "AUTHENTICATION_ERROR"
    AUTHORIZATION_ERROR = "AUTHORIZATION_ERROR"
    NOT_FOUND = "NOT_FOUND"
    METHOD_NOT_ALLOWED = "METHOD_NOT_ALLOWED"
    CONFLICT = "CONFLICT"
    PAYLOAD_TOO_LARGE = "PAYLOAD_TOO_LARGE"
    RATE_LIMITED = "RATE_LIMITED"
    INTERNAL_ERROR = "INTERNAL_ERROR"
    BAD_GATEWAY = "BAD_GATEWAY"
    SERVICE_UNAVAILABLE = "SERVICE_UNAVAILABLE"
    GATEWAY_TIMEOUT = "GATEWAY_TIMEOUT"


class FieldError(NamedTuple):
    """One thing wrong with one field; ``field`` is a path such as ``by.name`` or ``items[3].type``."""

    field: str
    message: Text


class AppError(Exception):
    """An error that a caller can understand. ``retryable`` says whether the same call may succeed later."""

    code: ClassVar[ErrorCode] = ErrorCode.INTERNAL_ERROR
    text: ClassVar[Text] = Text("服务器内部错误", "Internal server error")
    retryable: ClassVar[bool] = False

    def __init__(
        self,
        message: Text | None = None,
        details: Iterable[FieldError] = (),
        headers: Iterable[tuple[str, str]] = (),
    ) -> None:
        self.message = message or self.text
        self.details = tuple(details)
        self.headers = tuple(headers)
        super().__init__(self.message.en)

    @property
    def type(self) -> str:
        return type(self).__name__


class ValidationError(AppError):
    code = ErrorCode.VALIDATION_ERROR
    text = Text("请求参数错误", "Invalid request")

    @classmethod
    def of(cls, field: str, zh: str, en: str) -> ValidationError:
        return cls(details=[FieldError(field, Text(zh, en))])


class TenantRequiredError(AppError):
    code = ErrorCode.TENANT_REQUIRED
    text = Text("租户信息缺失", "Tenant is missing")


class AuthenticationError(AppError):
    code = ErrorCode.AUTHENTICATION_ERROR
    text = Text("未登录或登录已过期", "Not signed in, or the sign-in has expired")


class AuthorizationError(AppError):
    code = ErrorCode.AUTHORIZATION_ERROR
    text = Text("权限不足", "Permission denied")


class NotFoundError(AppError):
    code = ErrorCode.NOT_FOUND
    text = Text("资源不存在", "Not found")


class MethodNotAllowedError(AppError):
    code = ErrorCode.METHOD_NOT_ALLOWED
    text = Text("请求方法不支持", "Method not allowed")


class ConflictError(AppError):
    code = ErrorCode.CONFLICT
    text = Text("资源冲突", "Conflict")


class PayloadTooLargeError(AppError):
    code = ErrorCode.PAYLOAD_TOO_LARGE
    text = Text("请求内容过大", "Payload too large")


class RateLimitedError(AppError):
    code = ErrorCode.RATE_LIMITED
    text = Text("请求过于频繁", "Too many requests")
    retryable = True


class InternalError(AppError):
    pass


class BadGatewayError(AppError):
    code = ErrorCode.BAD_GATEWAY
    text = Text("上游服务异常", "Bad gateway")
    retryable = True


class ServiceUnavailableError(AppError):
    code = ErrorCode.SERVICE_UNAVAILABLE
    text = Text("服务暂不可用", "Service unavailable")
    retryable = True


class DependencyAwayError(ServiceUnavailableError):
    """What everybody here leans on, a database say, does not answer: no fault of the request or the message
    that met it, and no other one would fare better."""


class GatewayTimeoutError(AppError):
    code = ErrorCode.GATEWAY_TIMEOUT
    text = Text("上游服务超时", "Upstream timed out")
    retryable = True
