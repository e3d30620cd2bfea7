"""Where a request came from, as far as we believe it. DESIGN §5: a client's word about its address
counts for nothing, a listed proxy's word counts for what that proxy saw."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from yuanlian.gateway.forwarded import (
    Hop,
    format_forwarded,
    parse_address,
    parse_forwarded,
    parse_forwarded_for,
)
from yuanlian.gateway.http import Headers, Request
from yuanlian.gateway.paths import is_host

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_REMEMBERED = 4096
_LONGEST_REMEMBERED = 512
_IPV6_CUSTOMER = 64
_SAID = (b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto")


class Origin(NamedTuple):
    """``address``: of the client. ``network``: by which it is counted; one customer has a whole /64 of
    IPv6. ``trusted``: whether the peer is a listed proxy. ``headers``: how a service is told."""

    address: str
    network: str
    scheme: str
    host: bytes
    trusted: bool
    headers: Headers


class TrustedProxies:
    """Addresses or networks whose ``Forwarded`` and ``X-Forwarded-*`` are believed; by default nobody's
    are.

    Raises:
        ValueError: what is listed is no address or network.
    """

    def __init__(self, networks: Iterable[str] = ()) -> None:
        self._networks: list[Network] = [ipaddress.ip_network(network) for network in networks]
        self._known: dict[tuple[object, ...], Origin] = {}
        self.trusts = lru_cache(maxsize=_REMEMBERED)(self._is_listed)

    def origin(self, request: Request) -> Origin:
        """The nearest station that is not one of ours, reading the chain from its end. What is further
        away was said by a stranger and is dropped."""
        block = request.block
        if block is None:
            return self._find(request)
        origin = block.origin = block.origin or self._find(request)
        return origin

    def _find(self, request: Request) -> Origin:
        peer, scheme, first = request.client[0], request.scheme, request.first
        host = first.get(b"host", b"")
        if not self._networks or not self.trusts(peer):
            key: tuple[object, ...] = peer, scheme, host
            return self._known.get(key) or self._remember(key, _origin(peer, [], scheme, host, False))
        said = tuple([_joined(request, name) for name in _SAID])
        if sum(map(len, said)) > _LONGEST_REMEMBERED:
            return self._told(peer, scheme, host, *said)
        key = peer, scheme, host, said
        return self._known.get(key) or self._remember(key, self._told(peer, scheme, host, *said))

    def _told(
        self,
        peer: str,
        scheme: str,
        host: bytes,
        forwarded: bytes,
        for_: bytes,
        its_host: bytes,
        proto: bytes,
    ) -> Origin:
        """What a listed proxy says. A proxy that writes one kind of header passes the client's other
        kind on: where the two disagree about the client, neither is believed."""
        standard = self._believed(parse_forwarded(forwarded) or [])
        common = self._believed(parse_forwarded_for(for_))
        if standard and for_ and [hop.address for hop in standard] != [hop.address for hop in common]:
            return _origin(peer, [], scheme, host, True)
        if standard:
            common = standard
            proto, its_host = standard[0].proto.encode() or proto, standard[0].host.encode() or its_host
        scheme = {b"https": "https", b"http": "http"}.get(proto.lower(), scheme)
        return _origin(peer, common, scheme, its_host if is_host(its_host) else host, True)

    def _believed(self, hops: list[Hop]) -> list[Hop]:
        """The end of the chain: listed proxies, and the one station before them."""
        believed: list[Hop] = []
        for hop in reversed(hops):
            if hop.address is None:
                break
            believed.insert(0, hop)
            if not self.trusts(hop.address):
                break
        return believed

    def _is_listed(self, address: str) -> bool:
        plain = parse_address(address)
        if plain is None:
            return False
        parsed = ipaddress.ip_address(plain)
        return any(parsed in network for network in self._networks)

    def _remember(self, key: tuple[object, ...], origin: Origin) -> Origin:
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        self._known[key] = origin
        return origin


def _origin(peer: str, hops: list[Hop], scheme: str, host: bytes, trusted: bool) -> Origin:
    near = parse_address(peer) or peer
    chain = [*(hop.address or "" for hop in hops), near]
    return Origin(
        chain[0],
        _network(chain[0]),
        scheme,
        host,
        trusted,
        [
            (b"forwarded", format_forwarded(chain, scheme, host.decode("latin-1"))),
            (b"x-forwarded-for", ", ".join(chain).encode("latin-1")),
            (b"x-forwarded-proto", scheme.encode("ascii")),
            (b"x-forwarded-host", host),
        ],
    )


def _network(address: str) -> str:
    if ":" not in address:
        return address
    return str(ipaddress.ip_network(f"{address}/{_IPV6_CUSTOMER}", strict=False))


def _joined(request: Request, name: bytes) -> bytes:
    """All lines of a list header as one (RFC 9110 §5.3): a proxy may add a line instead of extending
    the client's."""
    if name not in request.first:
        return b""
    return b",".join([value for key, value in request.headers if key == name])
