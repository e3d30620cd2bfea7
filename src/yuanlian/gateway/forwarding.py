"""What a service gets to see of a client's request. DESIGN §5: nothing that a client says about its
identity or its address survives; what the gateway knows is set afterwards."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from yuanlian.gateway.http import Headers, Request, tokens

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
_TOKEN = frozenset({b"authorization"})
_NEVER_NAMED = frozenset({b"host", b"content-type", b"authorization"})


class Origin(NamedTuple):
    """Where a request came from, as far as we believe it. ``chain``: the ``X-Forwarded-For`` to send."""

    address: str
    chain: str
    scheme: str
    host: bytes


class TrustedProxies:
    """Addresses whose ``X-Forwarded-*`` is believed; by default nobody's is."""

    def __init__(self, networks: Iterable[str] = ()) -> None:
        self._networks: list[Network] = [ipaddress.ip_network(network) for network in networks]

    def origin(self, request: Request) -> Origin:
        """The nearest address that is not one of ours, reading the chain from its end."""
        peer = request.client[0]
        host = request.first.get(b"host", b"")
        if not self._networks or not self._trusts(peer):
            return Origin(peer, peer, "http", host)
        said = request.first.get(b"x-forwarded-for", b"").decode("latin-1")
        chain = [part.strip() for part in said.split(",") if _is_address(part.strip())]
        address = next((hop for hop in reversed(chain) if not self._trusts(hop)), peer)
        scheme = "https" if request.first.get(b"x-forwarded-proto", b"").lower() == b"https" else "http"
        return Origin(
            address, ", ".join([*chain, peer]), scheme, request.first.get(b"x-forwarded-host") or host
        )

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


@lru_cache(maxsize=4096)
def _passes(name: bytes) -> bool:
    return name not in _DROPPED and not name.startswith(_IDENTITY) and b"_" not in name


def upstream_headers(
    request: Request, origin: Origin, identity: str | None, tenant_id: str | None
) -> Headers:
    """The client's headers without those that belong to the hop or speak of identity, then ours.
    Names with an underscore go too: some servers read ``x_identity`` as ``x-identity``. The access
    token stays here once its meaning travels as ``identity``."""
    named = _named_by_connection(request)
    if identity is not None:
        named |= _TOKEN
    headers = [pair for pair in request.headers if _passes(pair[0]) and pair[0] not in named]
    if identity is not None:
        headers.append((b"x-identity", identity.encode("ascii")))
    if tenant_id is not None:
        headers.append((b"x-tenant-id", tenant_id.encode()))
    if request.body or b"content-length" in request.first or b"transfer-encoding" in request.first:
        headers.append((b"content-length", b"%d" % len(request.body)))
    headers += (
        (b"x-request-id", request.request_id.encode("ascii")),
        (b"x-forwarded-for", origin.chain.encode("latin-1")),
        (b"x-forwarded-proto", origin.scheme.encode("ascii")),
        (b"x-forwarded-host", origin.host),
    )
    return headers


def _named_by_connection(request: Request) -> frozenset[bytes]:
    """``Connection: close, X-Trace`` also drops ``X-Trace``. A name that the request cannot do
    without is not dropped: that would let a client strip it behind the checks."""
    if b"connection" not in request.first:
        return frozenset()
    values = (value for name, value in request.headers if name == b"connection")
    return frozenset(token for value in values for token in tokens(value)) - _NEVER_NAMED
