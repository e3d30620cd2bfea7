"""What a service gets to see of a client's request. DESIGN §5: nothing that a client says about its
identity or its address survives; what the gateway knows is set afterwards."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from yuanlian.gateway.http import Headers, Request, tokens
from yuanlian.gateway.paths import is_host

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# RFC 9110 §7.6.1, and what the gateway sets or has used up itself.
_DROPPED = frozenset(
    {
        b"connection",
        b"content-length",
        b"expect",
        b"forwarded",
        b"keep-alive",
        b"proxy",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"x-client-ip",
        b"x-http-method-override",
        b"x-original-url",
        b"x-real-ip",
        b"x-request-id",
        b"x-rewrite-url",
    }
)
# Any header that some service might take for the gateway's word about who is asking.
_IDENTITY = (
    b"remote-",
    b"x-auth",
    b"x-forwarded",
    b"x-identity",
    b"x-internal",
    b"x-permission",
    b"x-principal",
    b"x-remote",
    b"x-role",
    b"x-session",
    b"x-tenant",
    b"x-user",
)
_STRANGERS = 4096
_NEVER_NAMED = frozenset({b"host", b"content-type", b"authorization"})


class Origin(NamedTuple):
    """Where a request came from, as far as we believe it. ``headers``: how a service is told so."""

    address: str
    scheme: str
    host: bytes
    headers: Headers

    @classmethod
    def of(cls, address: str, chain: str, scheme: str, host: bytes) -> Origin:
        """``chain``: the ``X-Forwarded-For`` to send."""
        return cls(
            address,
            scheme,
            host,
            [
                (b"x-forwarded-for", chain.encode("latin-1")),
                (b"x-forwarded-proto", scheme.encode("ascii")),
                (b"x-forwarded-host", host),
            ],
        )


class TrustedProxies:
    """Addresses whose ``X-Forwarded-*`` is believed; by default nobody's is."""

    def __init__(self, networks: Iterable[str] = ()) -> None:
        self._networks: list[Network] = [ipaddress.ip_network(network) for network in networks]
        self._strangers: dict[tuple[str, bytes], Origin] = {}

    def origin(self, request: Request) -> Origin:
        """The nearest address that is not one of ours, reading the chain from its end."""
        peer = request.client[0]
        host = request.first.get(b"host", b"")
        if not self._networks or not self._trusts(peer):
            return self._strangers.get((peer, host)) or self._stranger(peer, host)
        said = request.first.get(b"x-forwarded-for", b"").decode("latin-1")
        chain = [part.strip() for part in said.split(",") if _is_address(part.strip())]
        address = next((hop for hop in reversed(chain) if not self._trusts(hop)), peer)
        scheme = "https" if request.first.get(b"x-forwarded-proto", b"").lower() == b"https" else "http"
        said_host = request.first.get(b"x-forwarded-host", b"")
        host = said_host if is_host(said_host) else host
        return Origin.of(address, ", ".join([*chain, peer]), scheme, host)

    def _stranger(self, peer: str, host: bytes) -> Origin:
        """One whose headers count for nothing is always the same."""
        if len(self._strangers) >= _STRANGERS:
            self._strangers.clear()
        origin = self._strangers[peer, host] = Origin.of(peer, peer, "http", host)
        return origin

    def _trusts(self, address: str) -> bool:
        if not _is_address(address):
            return False
        parsed = ipaddress.ip_address(address)
        return any(parsed in network for network in self._networks)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


@lru_cache(maxsize=512)
def _passes(name: bytes) -> bool:
    """Names with an underscore do not: some servers read ``x_identity`` as ``x-identity``."""
    return name not in _DROPPED and not name.startswith(_IDENTITY) and b"_" not in name


@lru_cache(maxsize=512)
def _passes_with_identity(name: bytes) -> bool:
    """The access token stays here once its meaning travels as ``X-Identity``."""
    return name != b"authorization" and _passes(name)


def upstream_headers(request: Request, origin: Origin, who: Headers, *, identified: bool) -> Headers:
    """The client's headers without those that belong to the hop or speak of identity, then ours:
    ``who`` is asking, ``identified`` when that includes ``X-Identity``, and from where."""
    passes = _passes_with_identity if identified else _passes
    headers = [pair for pair in request.headers if passes(pair[0])]
    first = request.first
    if b"connection" in first:
        named = _named_by_connection(request)
        headers = [pair for pair in headers if pair[0] not in named]
    headers += who
    if request.body or b"content-length" in first or b"transfer-encoding" in first:
        headers.append((b"content-length", b"%d" % len(request.body)))
    headers.append((b"x-request-id", request.request_id.encode("ascii")))
    headers += origin.headers
    return headers


def _named_by_connection(request: Request) -> frozenset[bytes]:
    """``Connection: close, X-Trace`` also drops ``X-Trace``. A name that the request cannot do
    without is not dropped: that would let a client strip it behind the checks."""
    values = (value for name, value in request.headers if name == b"connection")
    return frozenset(token for value in values for token in tokens(value)) - _NEVER_NAMED
