"""Access tokens from outside: verified here, issued by the auth service. CONTRACT §5.

HS256 and nothing else (RFC 8725 §3.1): the header must be exactly ``alg``, ``typ``, ``kid``, and the
audience the public one, so that neither an ``X-Identity`` token nor a refresh token passes as an
access token. Nothing of a refused token is told to its sender.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import msgspec
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import GuestProtocol, OctKey

from yuanlian.kit.clock import Clock
from yuanlian.kit.errors import AuthenticationError
from yuanlian.kit.identity.principal import Principal

ISSUER = "yuanlian"
AUDIENCE = "yuanlian:api"
LIFETIME_S = 3600
MAX_TOKEN_BYTES = 8192
CLOCK_SKEW_S = 330
"""How far the clocks of two processes may be apart: five minutes and a little."""

_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
_Epoch = Annotated[int, msgspec.Meta(ge=0, le=2**53)]


def key_id(secret: bytes) -> str:
    """A key is named after its content: under a new secret, tokens of the old one are unknown, not
    forged."""
    return hashlib.sha256(secret).hexdigest()[:8]


class AccessClaims(msgspec.Struct, frozen=True, omit_defaults=True):
    """The payload: the specification's claims, and ours besides. Times in epoch seconds."""

    iss: str
    aud: str
    sub: _Name
    iat: _Epoch
    exp: _Epoch
    jti: _Name
    sid: _Name
    tenantId: _Name
    roles: tuple[str, ...]
    permissions: frozenset[str]
    conditions: dict[str, tuple[str, ...]] = {}
    name: str = ""


@dataclass(frozen=True, slots=True)
class VerifiedToken:
    """``issued_at``: epoch seconds, to be held against ``Revocations``."""

    principal: Principal
    issued_at: int


class AccessTokenVerifier:
    """``keys``: key id → secret of at least 32 bytes. During a rotation it holds the new and the old.

    Costs about 30 us; whoever sees the same token often remembers the answer, with its expiry.
    """

    def __init__(self, keys: Mapping[str, bytes], clock: Clock) -> None:
        self._keys = {kid: OctKey.import_key(secret) for kid, secret in keys.items()}
        self._clock = clock
        self._decoder = msgspec.json.Decoder(AccessClaims)

    def verify(self, token: str) -> VerifiedToken:
        """Who the token speaks for. Revocation is the caller's question to ``Revocations``.

        Raises:
            AuthenticationError: anything at all is wrong with it.
        """
        if len(token) > MAX_TOKEN_BYTES:
            raise AuthenticationError
        try:
            signed = jws.deserialize_compact(token, self._key_of, algorithms=["HS256"])
            claims = self._decoder.decode(signed.payload or b"")
        # TypeError, AttributeError: a header that is JSON, but of other types than JOSE's.
        except (JoseError, ValueError, TypeError, AttributeError, RecursionError):
            raise AuthenticationError from None
        self._check(claims)
        return VerifiedToken(_principal(claims), claims.iat)

    def _key_of(self, signed: GuestProtocol) -> OctKey:
        """Asked by joserfc before it looks at the signature."""
        header = signed.headers()
        kid = header.get("kid")
        if not isinstance(kid, str) or header != {"alg": "HS256", "typ": "JWT", "kid": kid}:
            raise AuthenticationError
        key = self._keys.get(kid)
        if key is None:
            raise AuthenticationError
        return key

    def _check(self, claims: AccessClaims) -> None:
        now = self._clock.now_ms() / 1000
        if claims.iss != ISSUER or claims.aud != AUDIENCE:
            raise AuthenticationError
        if claims.exp <= now or claims.iat > now + CLOCK_SKEW_S or claims.exp <= claims.iat:
            raise AuthenticationError


def _principal(claims: AccessClaims) -> Principal:
    return Principal(
        user_id=claims.sub,
        tenant_id=claims.tenantId,
        roles=claims.roles,
        permissions=claims.permissions,
        conditions=claims.conditions,
        session_id=claims.sid,
        name=claims.name,
        expires_at=claims.exp,
    )
