"""What a service gets to see of a client's request. DESIGN §5: nothing that a client says about its
identity or its address survives; what the gateway knows is set afterwards."""

from __future__ import annotations

import re

from yuanlian.gateway.http import Headers, Request, tokens
from yuanlian.gateway.origin import Origin
from yuanlian.gateway.remembered import HeaderBlock
from yuanlian.kit.errors import BadGatewayError

# RFC 9110 §7.6.1, and what the gateway sets or has used up itself.
_DROPPED = frozenset(
    {
        b"connection",
        b"content-length",
        b"expect",
        b"forwarded",
        b"http2-settings",
        b"keep-alive",
        b"proxy",
        b"te",
        b"traceparent",
        b"tracestate",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"x-request-id",
    }
)
# Beginnings of headers that some service might take for the gateway's word about who is asking, from
# where, or for what: our own, and those of well-known proxies, clouds and frameworks.
_IDENTITY = (
    b"cf-",
    b"client-cert",  # RFC 9440
    b"fastly-client",
    b"front-end-https",
    b"proxy-",
    b"remote-",
    b"ssl-",
    b"tenant-id",
    b"true-client",
    b"user-id",
    b"wl-",
    b"x-amzn-oidc",
    b"x-appengine",
    b"x-appgw",
    b"x-arr-",
    b"x-auth",
    b"x-azure-",
    b"x-client-cert",
    b"x-client-dn",
    b"x-client-ip",
    b"x-client-verify",
    b"x-cluster-client",
    b"x-custom-ip",
    b"x-envoy",
    b"x-forwarded",
    b"x-goog-authenticated",
    b"x-host",
    b"x-http-method",
    b"x-identity",
    b"x-internal",
    b"x-method-override",
    b"x-ms-client-principal",
    b"x-original",
    b"x-originating",
    b"x-permission",
    b"x-principal",
    b"x-proto",
    b"x-proxy",
    b"x-real-ip",
    b"x-remote",
    b"x-rewrite",
    b"x-role",
    b"x-scheme",
    b"x-session",
    b"x-ssl",
    b"x-tenant",
    b"x-url",
    b"x-user",
    b"x-webauth",
)
# What stays although ``Connection`` names it: without it, the request would be another one.
_NEVER_NAMED = frozenset({b"authorization", b"content-type", b"cookie", b"host", b"idempotency-key"})
_REMEMBERED = 512
_LONGEST_REMEMBERED = 64
_NAME = re.compile(rb"[a-z0-9-]+")


class _Verdicts(dict[bytes, bool]):
    """Whether a header of that name passes, remembered: clients send the same few again and again."""

    def __init__(self, dropped: frozenset[bytes]) -> None:
        self._dropped = dropped

    def __missing__(self, name: bytes) -> bool:
        """Names with an underscore do not pass, nor with anything else but letters, digits and ``-``:
        servers after CGI's manner read ``x_identity`` and ``x.identity`` as ``x-identity``."""
        passes = name not in self._dropped and not name.startswith(_IDENTITY) and bool(_NAME.fullmatch(name))
        if len(self) < _REMEMBERED and len(name) <= _LONGEST_REMEMBERED:
            self[name] = passes
        return passes


_PASSES = _Verdicts(_DROPPED)
_PASSES_WITH_IDENTITY = _Verdicts(_DROPPED | {b"authorization"})
"""The access token stays here once its meaning travels as ``X-Identity``."""


class WrittenHeaders:
    """What all requests with the same header block, by the same caller, from the same origin take upstream:
    ``headers``, and the same as ``lines``."""

    __slots__ = ("headers", "lines", "origin", "who")

    def __init__(self, request: Request, origin: Origin, who: Headers) -> None:
        self.who = who
        self.origin = origin
        self.headers = _lasting(request, origin, who, _PASSES_WITH_IDENTITY)
        self.lines = written(self.headers)


def upstream_headers(
    request: Request, origin: Origin, who: Headers, traced: Headers, *, identified: bool
) -> Headers:
    """The client's headers without those that belong to the hop or speak of identity, then ours:
    ``who`` is asking, ``identified`` when that includes ``X-Identity``, in which trace, from where."""
    headers = _lasting(request, origin, who, _PASSES_WITH_IDENTITY if identified else _PASSES)
    first, body = request.first, request.body
    if not isinstance(body, bytes):
        if body.length is not None:
            headers.append((b"content-length", b"%d" % body.length))
    elif body or b"content-length" in first or b"transfer-encoding" in first:
        headers.append((b"content-length", b"%d" % len(body)))
    headers.append((b"x-request-id", request.request_id.encode("ascii")))
    headers += traced
    return headers


def repeated_headers(
    request: Request, block: HeaderBlock, origin: Origin, who: Headers, traced: Headers
) -> tuple[Headers, bytes]:
    """``upstream_headers`` of a request without a body by an identified caller, whose ``block`` came before;
    and the same as lines. ``who`` is compared by identity: a caller who is introduced anew gets another."""
    known = block.written
    if known is None or known.who is not who or known.origin is not origin:
        known = block.written = WrittenHeaders(request, origin, who)
    own = [(b"x-request-id", request.request_id.encode("ascii")), *traced]
    return known.headers + own, b"".join([known.lines, b"\r\n".join(map(b": ".join, own)), b"\r\n"])


def written(headers: Headers) -> bytes:
    """As lines.

    Raises:
        BadGatewayError: a line break in it; the parser lets none through, nobody else may either.
    """
    lines = [*map(b": ".join, headers), b""]
    text = b"".join(lines)
    if b"\n" in text or b"\r" in text:  # finding none is several times faster than counting ours
        raise BadGatewayError
    return b"\r\n".join(lines)


def _lasting(request: Request, origin: Origin, who: Headers, passes: _Verdicts) -> Headers:
    """Those that are not of this request alone."""
    headers = [pair for pair in request.headers if passes[pair[0]]]
    if b"connection" in request.first:
        named = _named_by_connection(request)
        headers = [pair for pair in headers if pair[0] not in named]
    return headers + who + origin.headers


def _named_by_connection(request: Request) -> frozenset[bytes]:
    """``Connection: close, X-Trace`` also drops ``X-Trace``. A name that the request cannot do
    without is not dropped: that would let a client strip it behind the checks."""
    values = (value for name, value in request.headers if name == b"connection")
    return frozenset(token for value in values for token in tokens(value)) - _NEVER_NAMED
