"""``X-Identity``: who the gateway verified, told to the services. DESIGN §5.

A short-lived HS256 token for the internal audience, under a key of its own: a client's access token
is never valid here, nor this one outside. Cached on both sides, because one client sends many
requests.
"""

from __future__ import annotations

from typing import Any

import msgspec
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import OctKey

from yuanlian.kit.clock import Clock
from yuanlian.kit.errors import AuthenticationError
from yuanlian.kit.identity.principal import Principal
from yuanlian.kit.identity.tokens import CLOCK_SKEW_S

HEADER = "x-identity"
AUDIENCE = "yuanlian:internal"
LIFETIME_S = 60
_CACHE_LIMIT = 10_000


class InternalIdentity:
    """Signs and reads the internal token. ``secret``: at least 32 bytes, known inside only."""

    def __init__(self, secret: bytes, clock: Clock) -> None:
        self._key = OctKey.import_key(secret)
        self._clock = clock
        self._signed: dict[int, tuple[Principal, str, float]] = {}
        self._read: dict[str | bytes, tuple[Principal, float]] = {}

    def sign(self, principal: Principal) -> str:
        """A token that stays valid for at least half of ``LIFETIME_S``."""
        now = self._clock.now_ms() / 1000
        known = self._signed.get(id(principal))
        if known is not None and known[0] is principal and known[2] > now:
            return known[1]
        claims: dict[str, Any] = msgspec.to_builtins(principal)
        token: str = jwt.encode(
            {"alg": "HS256", "typ": "JWT"},
            {"aud": AUDIENCE, "exp": int(now) + LIFETIME_S, "principal": claims},
            self._key,
        )
        _bound(self._signed)
        # The principal is kept beside its token, so its id cannot be reused meanwhile.
        self._signed[id(principal)] = (principal, token, now + LIFETIME_S / 2)
        return token

    def read(self, token: str | bytes) -> Principal:
        """The principal of a token.

        Raises:
            AuthenticationError: forged, meant for somebody else, or expired: by more than clocks may be
                apart, for the one who signed it is another process.
        """
        now = self._clock.now_ms() / 1000
        known = self._read.get(token)
        if known is not None and known[1] > now:
            return known[0]
        try:
            claims = jwt.decode(token, self._key, algorithms=["HS256"]).claims
            principal = msgspec.convert(claims["principal"], Principal)
            expires = float(claims["exp"]) + CLOCK_SKEW_S
        except (JoseError, ValueError, KeyError, TypeError, msgspec.ValidationError):
            raise AuthenticationError from None
        if claims.get("aud") != AUDIENCE or expires <= now:
            raise AuthenticationError
        _bound(self._read)
        self._read[token] = (principal, expires)
        return principal


def _bound(cache: dict[Any, Any]) -> None:
    """Tokens are short-lived: starting over now and then is cheaper than ordering them."""
    if len(cache) >= _CACHE_LIMIT:
        cache.clear()
