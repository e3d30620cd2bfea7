"""Which other sites' scripts may read a route's answers. Source: the Fetch standard, "HTTP CORS protocol"."""

from __future__ import annotations

import re
from typing import Annotated

import msgspec

from yuanlian.gateway.http import Headers, Method, Request, Response

ANY = "*"
_DEFAULT_PORT = {"http": "80", "https": "443"}
_ORIGIN = re.compile(r"(https?)://(?:[a-z0-9.-]+|\[[0-9a-f:.]+\])(?::([0-9]{1,5}))?")
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_ALLOWED_HEADERS = ("Authorization", "Content-Type", "Idempotency-Key", "X-Request-ID", "X-Tenant-ID")
_EXPOSED = (
    b"access-control-expose-headers: RateLimit-Limit, RateLimit-Remaining, RateLimit-Reset, Retry-After, "
    b"X-Request-ID\r\n"
)
_VARY = b"vary: Origin\r\n"
REPLACED = frozenset(
    {b"access-control-allow-credentials", b"access-control-allow-origin", b"access-control-expose-headers"}
)
"""Ours to say on a route with a rule, whatever its service says."""


class CorsRule(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """``cors`` as written in the file. ``origins``: exactly as browsers send them, or ``*``.
    ``methods``, ``headers``: the route's, and those that our API knows, when not given."""

    origins: Annotated[list[str], msgspec.Meta(min_length=1)]
    methods: list[Method] | None = None
    headers: list[str] | None = None
    credentials: bool = False
    maxAgeS: Annotated[int, msgspec.Meta(ge=0, le=86_400)] = 600

    def __post_init__(self) -> None:
        if ANY in self.origins and (self.credentials or len(self.origins) > 1):
            raise ValueError(
                "`*` would open the route to every site: not with credentials, nor beside others"
            )
        for origin in self.origins:
            if origin != ANY and (reason := _origin_problem(origin)):
                raise ValueError(f"`{origin}` {reason}")
        for header in self.headers or ():
            if _TOKEN.fullmatch(header) is None or header == ANY:
                raise ValueError(f"`{header}` is no header name")


def _origin_problem(origin: str) -> str | None:
    """Browsers compare letter by letter: what they never send would never match."""
    found = _ORIGIN.fullmatch(origin)
    if found is None:
        return "is no origin: scheme://host or scheme://host:port, in lower case, nothing behind it"
    if found[2] == _DEFAULT_PORT[found[1]]:
        return "names the default port, which browsers leave out"
    return None


class Cors:
    """One route's rule, ready to be applied. ``methods``: of the route."""

    def __init__(self, rule: CorsRule, methods: frozenset[str]) -> None:
        self.rule = rule
        self.origins = frozenset(origin.encode("ascii") for origin in rule.origins if origin != ANY)
        self._any = ANY in rule.origins
        allowed = sorted(rule.methods if rule.methods is not None else methods)
        headers = rule.headers if rule.headers is not None else list(_ALLOWED_HEADERS)
        self._preflight: Headers = [
            (b"access-control-allow-methods", ", ".join(allowed).encode("ascii")),
            (b"access-control-max-age", b"%d" % rule.maxAgeS),
        ]
        if headers:
            self._preflight.append((b"access-control-allow-headers", ", ".join(headers).encode("ascii")))

    def lines(self, origin: bytes | None) -> bytes:
        """The header lines of an answer to a script of ``origin``, None for one that is not listed."""
        if self._any:
            return b"access-control-allow-origin: *\r\n" + _EXPOSED
        if origin is None:
            return _VARY
        credentials = b"access-control-allow-credentials: true\r\n" if self.rule.credentials else b""
        return b"access-control-allow-origin: %b\r\n%b%b%b" % (origin, credentials, _EXPOSED, _VARY)

    def preflight(self, origin: bytes) -> Response:
        """What a browser hears that asks beforehand; an origin that is not listed hears nothing."""
        return Response(204, self._preflight if self._any or origin in self.origins else [])


def asked_beforehand(request: Request) -> str | None:
    """The method that a preflight asks about; None for any other request."""
    if request.method != "OPTIONS" or b"origin" not in request.first:
        return None
    method = request.first.get(b"access-control-request-method")
    return method.decode("latin-1") if method is not None else None
