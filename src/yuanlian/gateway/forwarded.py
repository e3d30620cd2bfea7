"""The syntax of ``Forwarded`` and ``X-Forwarded-For``: reading what proxies say, writing what we say.
Whom to believe is decided in ``origin.py``. Source: RFC 7239 §4, §6."""

from __future__ import annotations

import ipaddress
import re
from typing import NamedTuple

MOST_HOPS = 32
_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
# One pair, or nothing, up to the `;` or `,` that ends it.
_PAIR = re.compile(
    rb"[ \t]*(?:(%b)=(?:(%b)|\"((?:[^\"\\\x00-\x1f\x7f-\xff]|\\[\t\x20-\x7e])*)\"))?[ \t]*(;|,|\Z)"
    % (_TOKEN, _TOKEN)
)
_QUOTED_PAIR = re.compile(rb"\\(.)")
_NODE = re.compile(
    r"(?:(?P<address>[0-9.]+|\[[0-9A-Fa-f:.]+\])|(?P<hidden>unknown|_[A-Za-z0-9._-]+))"
    r"(?::(?:[0-9]{1,5}|_[A-Za-z0-9._-]+))?"
)
_PLAIN_VALUE = re.compile(_TOKEN)


class Hop(NamedTuple):
    """One station of a request. ``address``: None when it is hidden (``unknown``, ``_name``) or not
    said. ``proto``, ``host``: as the request had them there, ``""`` when not said."""

    address: str | None
    proto: str = ""
    host: str = ""


def parse_forwarded(value: bytes) -> list[Hop] | None:
    """The stations, the client's first; None when any part is malformed: half a chain would be
    another chain."""
    hops: list[Hop] = []
    pairs: dict[bytes, str] = {}
    position, end = 0, len(value)
    while True:
        found = _PAIR.match(value, position)
        if found is None:
            return None
        name, token, quoted, separator = found.groups()
        if name is not None:
            name = name.lower()
            if name in pairs:
                return None
            text = token if token is not None else _QUOTED_PAIR.sub(rb"\1", quoted)
            pairs[name] = text.decode("ascii")
        if separator != b";" and pairs:
            hop = _hop(pairs)
            if hop is None or len(hops) == MOST_HOPS:
                return None
            hops.append(hop)
            pairs = {}
        position = found.end()
        if position >= end and separator == b"":
            return hops


def _hop(pairs: dict[bytes, str]) -> Hop | None:
    said = pairs.get(b"for")
    proto, host = pairs.get(b"proto", "").lower(), pairs.get(b"host", "")
    if said is None:
        return Hop(None, proto, host)
    node = _NODE.fullmatch(said)
    if node is None:
        return None
    if node["hidden"]:
        return Hop(None, proto, host)
    address = parse_address(node["address"])
    return Hop(address, proto, host) if address is not None else None


def parse_forwarded_for(value: bytes) -> list[Hop]:
    """``X-Forwarded-For``: addresses, perhaps with a port; what is none is a station unknown to us."""
    parts = value.decode("latin-1").split(",")[-MOST_HOPS:]
    return [Hop(_address_of(part.strip())) for part in parts if part.strip()]


def _address_of(text: str) -> str | None:
    node = _NODE.fullmatch(text)
    return parse_address(node["address"] if node and node["address"] else text)


def parse_address(text: str) -> str | None:
    """An IP address (IPv6 with or without brackets) in its one spelling; IPv4 inside IPv6 is IPv4."""
    if text.startswith("["):
        text = text[1:-1]
    if "%" in text:
        return None
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(address)


def format_forwarded(addresses: list[str], proto: str, host: str) -> bytes:
    """What we say: ``proto`` and ``host`` are those of the first station's request."""
    first, *rest = [b"for=%b" % _value(f"[{a}]" if ":" in a else a) for a in addresses]
    said = [b"%b;host=%b;proto=%b" % (first, _value(host), _value(proto)) if host else b"%b;proto=%b" % (
        first, _value(proto))]  # fmt: skip
    return b", ".join([*said, *rest])


def _value(text: str) -> bytes:
    plain = text.encode("latin-1")
    if _PLAIN_VALUE.fullmatch(plain):
        return plain
    return b'"%b"' % plain.replace(b"\\", b"\\\\").replace(b'"', b'\\"')
