"""``Forwarded`` and ``X-Forwarded-For``: the grammar of RFC 7239, taken whole or not at all."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yuanlian.gateway.forwarded import (
    MOST_HOPS,
    Hop,
    format_forwarded,
    parse_forwarded,
    parse_forwarded_for,
)


@pytest.mark.parametrize(
    ("value", "hops"),
    [
        (b"for=192.0.2.60;proto=http;by=203.0.113.43", [Hop("192.0.2.60", "http")]),
        (b'For="[2001:db8:cafe::17]:4711"', [Hop("2001:db8:cafe::17")]),
        (b'for="_gazonk"', [Hop(None)]),
        (b"for=192.0.2.43, for=198.51.100.17", [Hop("192.0.2.43"), Hop("198.51.100.17")]),
        (b'for=192.0.2.43,for="[2001:db8:cafe::17]",for=unknown',
         [Hop("192.0.2.43"), Hop("2001:db8:cafe::17"), Hop(None)]),
        (b"for=_hidden, for=_SEVKISEK", [Hop(None), Hop(None)]),
        (b'for="192.0.2.43:47011";host="a:8443" ; PROTO=HTTPS', [Hop("192.0.2.43", "https", "a:8443")]),
        (b'for="192.0.2.43:_obf"', [Hop("192.0.2.43")]),
        (b"proto=https", [Hop(None, "https")]),
        (b' , for=192.0.2.1 ,, ;for=192.0.2.2; ,', [Hop("192.0.2.1"), Hop("192.0.2.2")]),
        (b'host="a\\.b";for=192.0.2.1', [Hop("192.0.2.1", "", "a.b")]),
        (b'for="[::ffff:192.0.2.1]"', [Hop("192.0.2.1")]),
        (b'for=192.0.2.1;ext="a,b;for=192.0.2.66"', [Hop("192.0.2.1")]),
        (b"", []),
    ],
)  # fmt: skip
def test_a_chain_is_read(value: bytes, hops: list[Hop]) -> None:
    assert parse_forwarded(value) == hops


@pytest.mark.parametrize(
    "value",
    [
        b"for=192.0.2.1, for=2001:db8::1", b"for=192.0.2.1, for=[2001:db8::1]", b"for=192.0.2.1:80",
        b"for=192.0.2.1, nonsense", b"for = 192.0.2.1", b"for=", b"=192.0.2.1",
        b"for=192.0.2.1;for=192.0.2.2",
        b"for=192.0.2.1;proto=http;Proto=https", b'for="192.0.2.1', b'for="192.0.2.1"x', b'for="a\nb"',
        b'for="2001:db8::1"', b'for="[192.0.2.1]x"', b"for=example.com", b"for=192.0.2.999", b"for=1.2.3",
        b'for="[fe80::1%eth0]"', b'for="192.0.2.1:999999"', b"for=192.0.2.1 for=192.0.2.2", b"for=\xe7",
        b'host="\xff"', b", ".join([b"for=192.0.2.1"] * (MOST_HOPS + 1)),
    ],
)  # fmt: skip
def test_a_chain_with_a_broken_link_is_none(value: bytes) -> None:
    assert parse_forwarded(value) is None


def _plain(address: str) -> str:
    """IPv4 inside IPv6 is IPv4."""
    return str(getattr(ipaddress.ip_address(address), "ipv4_mapped", None) or ipaddress.ip_address(address))


@given(
    addresses=st.lists(st.ip_addresses().map(str), min_size=1, max_size=5),
    proto=st.sampled_from(["http", "https"]),
    host=st.sampled_from(["", "a.test", "a.test:8443", "[2001:db8::1]:80"]),
)
def test_what_we_write_is_what_we_read(addresses: list[str], proto: str, host: str) -> None:
    hops = parse_forwarded(format_forwarded(addresses, proto, host))
    assert hops is not None
    assert hops[0][1:] == (proto, host)
    assert [hop.address for hop in hops] == [_plain(address) for address in addresses]


@given(st.binary(max_size=60) | st.text('for=prothsby,;" \\192.[:]_', max_size=60).map(str.encode))
def test_no_value_makes_it_stumble(value: bytes) -> None:
    parse_forwarded(value)
    assert len(parse_forwarded_for(value)) <= MOST_HOPS


def test_a_plain_list_may_have_ports_and_unknown_stations() -> None:
    said = b"192.0.2.1, [2001:DB8::1]:443, 2001:db8::2 ,192.0.2.2:80, unknown,, evil"
    assert [hop.address for hop in parse_forwarded_for(said)] == [
        "192.0.2.1", "2001:db8::1", "2001:db8::2", "192.0.2.2", None, None,
    ]  # fmt: skip
