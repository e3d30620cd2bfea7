"""What the head of a request has to be, beyond what llhttp refuses by itself: nothing in it may be read
in two ways. RFC 9110, 9112. Every check raises ``RefusedError``."""

from __future__ import annotations

from yuanlian.gateway.http import Headers, RefusedError, Request, tokens
from yuanlian.gateway.limits import Limits
from yuanlian.gateway.paths import is_host
from yuanlian.kit.errors import ValidationError
from yuanlian.kit.i18n import Text

MALFORMED = Text("请求报文格式错误", "Malformed request")
HEAD_TOO_LARGE = Text("请求头过大", "The request headers are too large")
_NO_HOST = Text("缺少 Host 请求头，或其内容不合法", "The Host header is missing or not a host")
_REPEATED = Text("请求头重复", "A header that must be unique is repeated")
_BAD_TARGET = Text("请求地址不合法", "The request target is not valid")

# A second value of one of these would let two readers see two different requests.
_UNIQUE = frozenset(
    {
        b"authorization",
        b"content-length",
        b"content-type",
        b"expect",
        b"host",
        b"idempotency-key",
        b"transfer-encoding",
        b"x-request-id",
        b"x-tenant-id",
    }
)
# RFC 9110 §9, 5789. llhttp knows more: WebDAV's, and those of RTSP and Icecast, whose versions it takes
# for ours.
_METHODS = {
    name.encode(): name
    for name in ("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH")
}


def method_of(name: bytes) -> str:
    method = _METHODS.get(name)
    if method is None:
        raise RefusedError(ValidationError(MALFORMED))
    return method


def check_headers(headers: Headers, first: dict[bytes, bytes], limits: Limits, fed: int) -> None:
    """``fed``: bytes that the head cannot be longer than."""
    most = limits.head_bytes
    too_large = fed > most and sum(len(name) + len(value) + 4 for name, value in headers) > most
    if too_large or len(headers) > limits.headers:
        raise RefusedError(ValidationError(HEAD_TOO_LARGE), 431)
    if len(first) == len(headers):
        return
    names = [name for name, _ in headers]
    if any(names.count(name) > 1 for name in _UNIQUE & first.keys()):
        raise RefusedError(ValidationError(_REPEATED))


def origin_form(target: bytes, host: bytes) -> bytes:
    """The target as ``/path?query``; the absolute form (RFC 9112 §3.2.2) loses its authority, which must
    be the ``Host``: of two names, two readers could take either."""
    scheme, separator, rest = target.partition(b"://")
    if separator and scheme.lower() in (b"http", b"https"):
        authority, slash, path = rest.partition(b"/")
        if authority.lower() != host.lower():
            raise RefusedError(ValidationError(_BAD_TARGET))
        target = slash + path or b"/"
    if not target.startswith(b"/") or b"#" in target:
        raise RefusedError(ValidationError(_BAD_TARGET))
    return target


def check_host_and_framing(request: Request) -> None:
    first = request.first
    host = first.get(b"host")
    if (host is None and request.version == "1.1") or (host is not None and not is_host(host)):
        raise RefusedError(ValidationError(_NO_HOST))
    coding = first.get(b"transfer-encoding")
    if coding is not None and (b"content-length" in first or coding.lower() != b"chunked"):
        raise RefusedError(ValidationError(MALFORMED))


def check_old_version(request: Request, beginning: bytes) -> None:
    """HTTP/1.0 knows no chunks, and its ``keep-alive`` does not undo a ``close``. llhttp takes RTSP/1.0
    for it; ``beginning``: the request's line and more, or nothing where it is not at hand."""
    line = beginning.lstrip(b"\r\n").partition(b"\r\n")[0]
    foreign = line and not line.endswith(b" HTTP/1.0")
    if request.version != "1.0" or foreign or b"transfer-encoding" in request.first:
        raise RefusedError(ValidationError(MALFORMED))
    values = (value for name, value in request.headers if name == b"connection")
    request.keep_alive = request.keep_alive and not any(b"close" in tokens(value) for value in values)
