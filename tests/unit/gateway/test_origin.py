"""Whose word about a client's address, scheme and host counts. DESIGN §5."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yuanlian.gateway.forwarded import parse_forwarded
from yuanlian.gateway.http import Headers, Request
from yuanlian.gateway.origin import Origin, TrustedProxies

PROXIES = TrustedProxies(["10.0.0.0/8", "2001:db8:1::/48"])


def _request(peer: str, *headers: tuple[bytes, bytes]) -> Request:
    sent: Headers = [(b"host", b"edge.test"), *headers]
    first = dict(reversed(sent))
    return Request("GET", b"/", b"/", b"", sent, first, (peer, 1), "1.1", 0.0, "req_1")


def _origin(peer: str, *headers: tuple[bytes, bytes]) -> Origin:
    return PROXIES.origin(_request(peer, *headers))


def _for(value: bytes) -> tuple[bytes, bytes]:
    return b"x-forwarded-for", value


def test_a_stranger_is_who_it_is_whatever_it_says() -> None:
    said = [
        _for(b"10.0.0.1"), (b"forwarded", b"for=10.0.0.1"), (b"x-forwarded-proto", b"https"),
        (b"x-forwarded-host", b"a"),
    ]  # fmt: skip
    origin = _origin("192.0.2.7", *said)
    assert origin[:5] == ("192.0.2.7", "192.0.2.7", "http", b"edge.test", False)
    assert dict(origin.headers) == {
        b"forwarded": b"for=192.0.2.7;host=edge.test;proto=http",
        b"x-forwarded-for": b"192.0.2.7",
        b"x-forwarded-proto": b"http",
        b"x-forwarded-host": b"edge.test",
    }


@pytest.mark.parametrize(
    ("said", "chain"),
    [
        ([], "10.0.0.1"),
        ([_for(b"192.0.2.1")], "192.0.2.1, 10.0.0.1"),
        ([_for(b"6.6.6.6, 192.0.2.1")], "192.0.2.1, 10.0.0.1"),
        ([_for(b"6.6.6.6"), _for(b"192.0.2.1")], "192.0.2.1, 10.0.0.1"),
        ([_for(b"6.6.6.6, 192.0.2.1, 10.2.3.4")], "192.0.2.1, 10.2.3.4, 10.0.0.1"),
        ([_for(b"6.6.6.6, unknown, 10.2.3.4")], "10.2.3.4, 10.0.0.1"),
        ([_for(b"10.9.9.9, 10.2.3.4")], "10.9.9.9, 10.2.3.4, 10.0.0.1"),
        ([(b"forwarded", b"for=192.0.2.1;proto=https;host=k.test")], "192.0.2.1, 10.0.0.1"),
        ([(b"forwarded", b"for=6.6.6.6"), (b"forwarded", b"for=192.0.2.1")], "192.0.2.1, 10.0.0.1"),
        ([(b"forwarded", b"for=192.0.2.1, broken")], "10.0.0.1"),
        ([(b"forwarded", b"for=_hidden")], "10.0.0.1"),
        ([(b"forwarded", b"for=192.0.2.1"), _for(b"192.0.2.1:4711")], "192.0.2.1, 10.0.0.1"),
        ([(b"forwarded", b"for=6.6.6.6"), _for(b"192.0.2.1")], "10.0.0.1"),
        ([(b"forwarded", b"for=192.0.2.1"), _for(b"6.6.6.6")], "10.0.0.1"),
        ([(b"forwarded", b"broken"), _for(b"192.0.2.1")], "192.0.2.1, 10.0.0.1"),
    ],
)
def test_a_proxys_chain_is_believed_as_far_as_proxies_saw_it(
    said: list[tuple[bytes, bytes]], chain: str
) -> None:
    for _ in range(2):  # the second time it is remembered
        origin = _origin("10.0.0.1", *said)
        assert dict(origin.headers)[b"x-forwarded-for"].decode() == chain
        assert origin.address == chain.partition(",")[0]
        assert origin.trusted


def test_scheme_and_host_come_with_the_chain_that_is_believed() -> None:
    common = [_for(b"192.0.2.1"), (b"x-forwarded-proto", b"HTTPS"), (b"x-forwarded-host", b"k.test:8443")]
    assert _origin("10.0.0.1", *common)[2:4] == ("https", b"k.test:8443")
    standard = (b"forwarded", b'for=192.0.2.1;proto=https;host="k.test:1", for=10.1.1.1;proto=http')
    origin = _origin("10.0.0.1", standard)
    assert origin[2:4] == ("https", b"k.test:1")
    assert dict(origin.headers)[b"forwarded"] == (
        b'for=192.0.2.1;host="k.test:1";proto=https, for=10.1.1.1, for=10.0.0.1'
    )


@pytest.mark.parametrize("host", [b"a b", b"", b"a,b", b"evil/path", b"a\xff"])
def test_a_host_that_is_none_is_not_believed(host: bytes) -> None:
    assert _origin("10.0.0.1", _for(b"192.0.2.1"), (b"x-forwarded-host", host)).host == b"edge.test"


def test_a_scheme_other_than_http_and_https_is_none() -> None:
    assert _origin("10.0.0.1", (b"x-forwarded-proto", b"gopher")).scheme == "http"


def test_an_address_has_one_spelling() -> None:
    assert _origin("::ffff:10.0.0.1", _for(b"192.0.2.1")).address == "192.0.2.1"
    assert _origin("10.0.0.1", _for(b"2001:DB8:0::5")).address == "2001:db8::5"
    assert _origin("2001:db8:1::9", _for(b"192.0.2.1")).address == "192.0.2.1"


def test_a_customer_with_a_network_of_its_own_counts_once() -> None:
    assert _origin("2001:db8:2::1").network == _origin("2001:db8:2::2").network
    assert _origin("2001:db8:2::1").network != _origin("2001:db8:2:1::1").network


def test_it_remembers_only_so_much() -> None:
    proxies = TrustedProxies(["10.0.0.0/8"])
    for number in range(10_000):
        proxies.origin(_request("10.0.0.1", _for(b"192.0.%d.%d" % divmod(number, 250))))
    assert len(proxies._known) <= 4096
    before = len(proxies._known)
    long = b", ".join([b"192.0.2.1"] * 500)
    assert proxies.origin(_request("10.0.0.1", _for(long))).address == "192.0.2.1"
    assert len(proxies._known) == before


def test_what_is_no_network_cannot_be_listed() -> None:
    with pytest.raises(ValueError, match="IPv4 or IPv6"):
        TrustedProxies(["proxy.local"])


SAID = st.lists(
    st.tuples(
        st.sampled_from([b"forwarded", b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host"]),
        st.lists(
            st.sampled_from(
                ["for=", "192.0.2.1", "10.0.0.9", '"[2001:db8::7]:1"', "unknown", "_x", ",", ";",
                 "proto=https", "host=", "k.test", '"', "\\", " ", "\xff", "::ffff:10.1.1.1", "[::1]", ":80"]
            ),
            max_size=8,
        ).map(lambda parts: "".join(parts).encode("latin-1")),
    ),
    max_size=5,
)  # fmt: skip


@given(SAID)
def test_whatever_is_said_an_address_comes_out_and_a_stranger_changes_nothing(
    said: list[tuple[bytes, bytes]],
) -> None:
    assert _origin("192.0.2.7", *said) == _origin("192.0.2.7")
    origin = _origin("10.0.0.1", *said)
    ipaddress.ip_address(origin.address)
    assert origin.scheme in ("http", "https")
    chain = dict(origin.headers)[b"x-forwarded-for"].decode().split(", ")
    assert all(PROXIES.trusts(hop) for hop in chain[1:])
    assert chain[-1] == "10.0.0.1"
    hops = parse_forwarded(dict(origin.headers)[b"forwarded"])
    assert hops is not None
    assert [hop.address for hop in hops] == chain
