"""Token forgery: everything that is not exactly an access token of ours is refused, and alike."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jwt
from joserfc.jwk import OctKey, RSAKey

from yuanlian.kit.clock import ManualClock
from yuanlian.kit.errors import AuthenticationError
from yuanlian.kit.identity.internal import InternalIdentity
from yuanlian.kit.identity.principal import Principal
from yuanlian.kit.identity.tokens import CLOCK_SKEW_S, LIFETIME_S, AccessTokenVerifier
from yuanlian.services.auth.tokens import TokenIssuer, new_refresh_token

NOW = 1_790_000_000
SECRET = b"the secret of these tests, 32 bytes+"
OLD_SECRET = b"the secret before, 32 bytes and more"
KEYS = {"new": SECRET, "old": OLD_SECRET}
HEADER = {"alg": "HS256", "typ": "JWT", "kid": "new"}
CLAIMS: dict[str, Any] = {
    "iss": "yuanlian",
    "aud": "yuanlian:api",
    "sub": "user_1",
    "iat": NOW,
    "exp": NOW + LIFETIME_S,
    "jti": "token_1",
    "sid": "session_1",
    "tenantId": "tenant_1",
    "roles": ["teacher"],
    "permissions": ["student.read"],
    "conditions": {"student.read": ["resource.classId in user.classIds"]},
    "name": "王老师",
}


def encoded(part: bytes | dict[str, Any]) -> str:
    raw = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def forge(
    claims: dict[str, Any] | bytes = CLAIMS,
    header: dict[str, Any] | bytes = HEADER,
    secret: bytes = SECRET,
    digest: Callable[[], Any] = hashlib.sha256,
) -> str:
    """By hand, so that no library refuses to write it."""
    signed = f"{encoded(header)}.{encoded(claims)}"
    return f"{signed}.{encoded(hmac.new(secret, signed.encode(), digest).digest())}"


def verifier(now: int = NOW) -> AccessTokenVerifier:
    return AccessTokenVerifier(KEYS, ManualClock(now * 1000))


def without(claim: str) -> dict[str, Any]:
    return {name: value for name, value in CLAIMS.items() if name != claim}


def test_the_genuine_token_becomes_its_principal() -> None:
    verified = verifier().verify(forge())
    assert verified.issued_at == NOW
    assert verified.principal == Principal(
        user_id="user_1",
        tenant_id="tenant_1",
        roles=("teacher",),
        permissions=frozenset({"student.read"}),
        conditions={"student.read": ("resource.classId in user.classIds",)},
        session_id="session_1",
        name="王老师",
        expires_at=NOW + LIFETIME_S,
    )


def test_what_is_issued_is_verified_under_the_new_and_the_old_key() -> None:
    principal = verifier().verify(forge()).principal
    for kid in KEYS:
        assert verifier().verify(TokenIssuer(KEYS, kid).issue(principal)).principal == principal


def refused(token: str, now: int = NOW) -> str:
    with pytest.raises(AuthenticationError) as error:
        verifier(now).verify(token)
    return str(error.value)


RSA = RSAKey.generate_key(2048, auto_kid=False)
FORGERIES: dict[str, str] = {
    "empty": "",
    "no dots": "abc",
    "two parts": ".".join(forge().split(".")[:2]),
    "four parts": forge() + ".x",
    "five parts, as of JWE": forge() + ".x.y",
    "not base64": "!!!.???.###",
    "not ASCII": forge() + "é",
    "surrogate": forge() + "\ud800",
    "null byte": forge() + "\0",
    "blank before": " " + forge(),
    "scheme kept": "Bearer " + forge(),
    "no signature": forge().rpartition(".")[0] + ".",
    "signature of another token": forge().rpartition(".")[0]
    + "."
    + forge(without("name")).rpartition(".")[2],
    "alg none": forge(header={**HEADER, "alg": "none"}).rpartition(".")[0] + ".",
    "alg None": forge(header={**HEADER, "alg": "None"}),
    "alg none, signed": forge(header={**HEADER, "alg": "none"}),
    "alg missing": forge(header={"typ": "JWT", "kid": "new"}),
    "alg lower case": forge(header={**HEADER, "alg": "hs256"}),
    "alg a list": forge(header={**HEADER, "alg": ["HS256"]}),
    "alg HS512": forge(header={**HEADER, "alg": "HS512"}, digest=hashlib.sha512),
    "alg HS384": forge(header={**HEADER, "alg": "HS384"}, digest=hashlib.sha384),
    "alg RS256 with a key of theirs": jwt.encode({**HEADER, "alg": "RS256"}, CLAIMS, RSA, ["RS256"]),
    "alg HS256 with a public key as secret": forge(secret=RSA.as_pem(private=False)),
    "another secret": forge(secret=b"another secret, also 32 bytes long"),
    "empty secret": forge(secret=b""),
    "kid missing": forge(header={"alg": "HS256", "typ": "JWT"}),
    "kid unknown": forge(header={**HEADER, "kid": "other"}),
    "kid a path": forge(header={**HEADER, "kid": "../../dev/null"}, secret=b""),
    "kid an object": forge(header={**HEADER, "kid": {"new": 1}}),
    "kid null": forge(header={**HEADER, "kid": None}),
    "kid of the other key": forge(header={**HEADER, "kid": "old"}),
    "typ missing": forge(header={"alg": "HS256", "kid": "new"}),
    "typ at+jwt": forge(header={**HEADER, "typ": "at+jwt"}),
    "key in the header": forge(header={**HEADER, "jwk": {"kty": "oct", "k": "AAAA"}}),
    "key address in the header": forge(header={**HEADER, "jku": "https://example.com/keys"}),
    "critical extension": forge(header={**HEADER, "crit": ["b64"], "b64": False}),
    "unencoded payload": forge(header={**HEADER, "b64": False}),
    "compressed": forge(header={**HEADER, "zip": "DEF"}),
    "header a list": forge(header=b"[]"),
    "header a string": forge(header=b'"alg"'),
    "header null": forge(header=b"null"),
    "header no JSON": forge(header=b"{"),
    "header no UTF-8": forge(header=b"\xff\xfe"),
    "header deep": forge(header=b"[" * 3000),
    "payload a list": forge(claims=b"[]"),
    "payload empty": forge(claims=b""),
    "payload deep": forge(claims=b'{"a":' * 900),
    "payload no UTF-8": forge(claims=b"\xff"),
    "another issuer": forge({**CLAIMS, "iss": "someone"}),
    "another audience": forge({**CLAIMS, "aud": "yuanlian:internal"}),
    "audience a list": forge({**CLAIMS, "aud": ["yuanlian:api"]}),
    "expired": forge({**CLAIMS, "iat": NOW - LIFETIME_S, "exp": NOW}),
    "not yet": forge({**CLAIMS, "iat": NOW + CLOCK_SKEW_S + 1}),
    "expires before it was issued": forge({**CLAIMS, "iat": NOW + 10, "exp": NOW + 5}),
    "exp a string": forge({**CLAIMS, "exp": str(NOW + 10)}),
    "exp true": forge({**CLAIMS, "exp": True}),
    "exp null": forge({**CLAIMS, "exp": None}),
    "exp huge": forge({**CLAIMS, "exp": 10**30}),
    "exp infinite": forge(json.dumps({**CLAIMS, "exp": float("inf")}).encode()),
    "iat negative": forge({**CLAIMS, "iat": -1}),
    "sub empty": forge({**CLAIMS, "sub": ""}),
    "sub a number": forge({**CLAIMS, "sub": 1}),
    "sub long": forge({**CLAIMS, "sub": "u" * 65}),
    "tenant null": forge({**CLAIMS, "tenantId": None}),
    "tenant empty": forge({**CLAIMS, "tenantId": ""}),
    "roles a string": forge({**CLAIMS, "roles": "teacher"}),
    "permissions an object": forge({**CLAIMS, "permissions": {"student.read": True}}),
    "conditions null": forge({**CLAIMS, "conditions": {"student.read": None}}),
    "conditions a string": forge({**CLAIMS, "conditions": {"student.read": "true"}}),
    "oversize": forge({**CLAIMS, "padding": "x" * 8192}),
    "a megabyte": "A" * 2**20,
    "a refresh token": new_refresh_token(),
    "an internal token": InternalIdentity(SECRET, ManualClock(NOW * 1000)).sign(Principal("u", "t")),
    "an internal token's claims": jwt.encode(
        HEADER, {"aud": "yuanlian:internal", "exp": NOW + 60, "principal": {}}, OctKey.import_key(SECRET)
    ),
} | {f"{claim} missing": forge(without(claim)) for claim in CLAIMS if claim not in ("conditions", "name")}


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forgery_is_refused_without_saying_why(name: str) -> None:
    assert refused(FORGERIES[name]) == str(AuthenticationError())


def test_an_access_token_is_no_identity_inside() -> None:
    inside = InternalIdentity(SECRET, ManualClock(NOW * 1000))
    with pytest.raises(AuthenticationError):
        inside.read(forge())


def test_a_token_dies_on_time() -> None:
    clock = ManualClock(NOW * 1000)
    verifying = AccessTokenVerifier(KEYS, clock)
    token = forge()
    clock.advance(LIFETIME_S * 1000 - 1)
    verifying.verify(token)
    clock.advance(1)
    for _ in range(2):
        with pytest.raises(AuthenticationError):
            verifying.verify(token)


@given(st.integers(min_value=0, max_value=len(forge()) - 1), st.sampled_from("AZaz09-_.="))
def test_no_changed_character_is_accepted_for_other_claims(position: int, character: str) -> None:
    token = forge()
    changed = token[:position] + character + token[position + 1 :]
    try:
        verified = verifier().verify(changed)
    except AuthenticationError:
        return
    # The last character of a base64url text has bits that mean nothing (RFC 4648 §3.5).
    assert verified == verifier().verify(token)


@given(st.text(max_size=200))
def test_no_text_does_anything_but_be_refused(text: str) -> None:
    refused(text)
