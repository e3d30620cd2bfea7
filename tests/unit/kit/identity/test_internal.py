from __future__ import annotations

from base64 import urlsafe_b64encode
from typing import Any

import msgspec
import pytest
from joserfc import jwt
from joserfc.jwk import OctKey

from yuanlian.kit.clock import ManualClock
from yuanlian.kit.errors import AuthenticationError
from yuanlian.kit.identity.internal import AUDIENCE, LIFETIME_S, InternalIdentity
from yuanlian.kit.identity.principal import Principal
from yuanlian.kit.identity.tokens import CLOCK_SKEW_S

SECRET = b"an internal secret, 32 bytes or more"
PRINCIPAL = Principal("user_1", "t1", ("teacher",), frozenset({"a.read"}), {"a.read": ("true",)}, "s1", "王")


def test_services_read_what_the_gateway_signed() -> None:
    clock = ManualClock(1_790_000_000_000)
    gateway, service = InternalIdentity(SECRET, clock), InternalIdentity(SECRET, clock)
    assert service.read(gateway.sign(PRINCIPAL)) == PRINCIPAL


def test_it_is_short_lived_and_signed_anew_in_time() -> None:
    clock = ManualClock(1_790_000_000_000)
    identity = InternalIdentity(SECRET, clock)
    first = identity.sign(PRINCIPAL)
    assert identity.sign(PRINCIPAL) == first
    clock.advance(LIFETIME_S * 500 + 1000)
    assert identity.sign(PRINCIPAL) != first
    assert identity.read(first) == PRINCIPAL
    clock.advance((LIFETIME_S + CLOCK_SKEW_S) * 1000)
    with pytest.raises(AuthenticationError):
        identity.read(first)


@pytest.mark.parametrize("ahead_s", [-300, 300])
def test_processes_whose_clocks_are_five_minutes_apart_understand_each_other(ahead_s: int) -> None:
    gateway = InternalIdentity(SECRET, ManualClock(1_790_000_000_000))
    service = InternalIdentity(SECRET, ManualClock(1_790_000_000_000 + ahead_s * 1000))
    assert service.read(gateway.sign(PRINCIPAL)) == PRINCIPAL


@pytest.mark.parametrize("token", ["", "a.b.c", "e30.e30.e30", "é", "\0", "\udcff", ".", "..", "x" * 9000])
def test_garbage_is_refused(token: str) -> None:
    with pytest.raises(AuthenticationError):
        InternalIdentity(SECRET, ManualClock(0)).read(token)


def test_another_secret_is_refused() -> None:
    clock = ManualClock(1_790_000_000_000)
    token = InternalIdentity(b"somebody else's secret, 32 bytes long", clock).sign(PRINCIPAL)
    with pytest.raises(AuthenticationError):
        InternalIdentity(SECRET, clock).read(token)


def test_it_is_a_token_as_joserfc_reads_and_writes_it() -> None:
    clock = ManualClock(1_790_000_000_000)
    identity, key = InternalIdentity(SECRET, clock), OctKey.import_key(SECRET)
    ours = jwt.decode(identity.sign(PRINCIPAL), key, algorithms=["HS256"])
    assert ours.header == {"alg": "HS256", "typ": "JWT"}
    assert ours.claims["aud"] == AUDIENCE
    assert msgspec.convert(ours.claims["principal"], Principal) == PRINCIPAL
    theirs = jwt.encode(ours.header, ours.claims, key)
    assert identity.read(theirs) == PRINCIPAL
    assert identity.read(theirs.encode()) == PRINCIPAL


@pytest.mark.parametrize(
    "changed",
    [
        {"aud": "yuanlian:api"},
        {"aud": None},
        {"exp": 1_790_000_000 - CLOCK_SKEW_S},
        {"exp": "1790000600"},
        {"principal": {"user_id": "user_1"}},
        {"principal": None},
    ],
)
def test_claims_of_another_audience_time_or_shape_are_refused(changed: dict[str, Any]) -> None:
    key, identity = OctKey.import_key(SECRET), InternalIdentity(SECRET, ManualClock(1_790_000_000_000))
    claims = {"aud": AUDIENCE, "exp": 1_790_000_600, "principal": msgspec.to_builtins(PRINCIPAL)}
    assert identity.read(jwt.encode({"alg": "HS256", "typ": "JWT"}, claims, key)) == PRINCIPAL
    with pytest.raises(AuthenticationError):
        identity.read(jwt.encode({"alg": "HS256", "typ": "JWT"}, claims | changed, key))


@pytest.mark.parametrize(
    "header",
    [
        {"alg": "HS256", "typ": "JOSE"},
        {"alg": "HS384", "typ": "JWT"},
        {"alg": "HS256", "typ": "JWT", "kid": "1"},
    ],
)
def test_no_other_header_is_ours_whoever_signed_it(header: dict[str, Any]) -> None:
    key, identity = OctKey.import_key(SECRET), InternalIdentity(SECRET, ManualClock(1_790_000_000_000))
    claims = {"aud": AUDIENCE, "exp": 1_790_000_600, "principal": msgspec.to_builtins(PRINCIPAL)}
    with pytest.raises(AuthenticationError):
        identity.read(jwt.encode(header, claims, key, algorithms=["HS256", "HS384"]))


def test_a_token_with_anything_changed_is_refused() -> None:
    identity = InternalIdentity(SECRET, ManualClock(1_790_000_000_000))
    token = identity.sign(PRINCIPAL).encode()
    for place in range(len(token)):
        for other in (b"A", b"B", b"."):
            changed = token[:place] + other + token[place + 1 :]
            if changed != token:
                with pytest.raises(AuthenticationError):
                    identity.read(changed)
    unsigned = urlsafe_b64encode(b'{"alg":"none"}').rstrip(b"=") + token[token.index(b".") :]
    without = token[: token.rindex(b".") + 1]
    for changed in (unsigned, without, without[:-1], token + b"=", token + b"A", b" " + token, b"." + token):
        with pytest.raises(AuthenticationError):
            identity.read(changed)
