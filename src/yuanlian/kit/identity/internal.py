"""``X-Identity``: who the gateway verified, told to the services. DESIGN §5.

A short-lived HS256 token for the internal audience, under a key of its own: a client's access token
is never valid here, nor this one outside. Cached on both sides, because one client sends many
requests; where each sends but one, a token costs 8 us to sign and 12 us to read.

Any library reads these tokens (RFC 7515, compact). Here there is no other algorithm, header or spelling to
choose from, and nothing is parsed before the signature is known to be ours.
"""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any

import msgspec

from yuanlian.kit.clock import Clock
from yuanlian.kit.errors import AuthenticationError
from yuanlian.kit.identity.principal import Principal
from yuanlian.kit.identity.tokens import CLOCK_SKEW_S

HEADER = "x-identity"
AUDIENCE = "yuanlian:internal"
LIFETIME_S = 60
_CACHE_LIMIT = 10_000


class _Claims(msgspec.Struct):
    aud: str
    exp: int
    principal: Principal


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Claims).decode


class InternalIdentity:
    """Signs and reads the internal token. ``secret``: at least 32 bytes, known inside only."""

    def __init__(self, secret: bytes, clock: Clock) -> None:
        self._secret = secret
        self._clock = clock
        self._signed: dict[int, tuple[Principal, str, float]] = {}
        self._read: dict[str | bytes, tuple[Principal, float]] = {}

    def sign(self, principal: Principal) -> str:
        """A token that stays valid for at least half of ``LIFETIME_S``."""
        now = self._clock.now_ms() / 1000
        known = self._signed.get(id(principal))
        if known is not None and known[0] is principal and known[2] > now:
            return known[1]
        claims = _Claims(AUDIENCE, int(now) + LIFETIME_S, principal)
        signed = _JOSE_HEADER + b"." + _part(_encode(claims))
        token = (signed + b"." + self._signature(signed)).decode("ascii")
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
        claims = self._verified(token.encode("utf-8", "replace") if isinstance(token, str) else token)
        expires = claims.exp + CLOCK_SKEW_S
        if claims.aud != AUDIENCE or expires <= now:
            raise AuthenticationError
        _bound(self._read)
        self._read[token] = (claims.principal, expires)
        return claims.principal

    def _verified(self, token: bytes) -> _Claims:
        signed, _, signature = token.rpartition(b".")
        header, _, payload = signed.partition(b".")
        if not hmac.compare_digest(signature, self._signature(signed)) or header != _JOSE_HEADER:
            raise AuthenticationError
        try:
            return _decode(urlsafe_b64decode(payload + b"=="))
        except ValueError:  # of a release that says it otherwise
            raise AuthenticationError from None

    def _signature(self, signed: bytes) -> bytes:
        return _part(hmac.digest(self._secret, signed, "sha256"))


def _part(data: bytes) -> bytes:
    return urlsafe_b64encode(data).rstrip(b"=")


_JOSE_HEADER = _part(b'{"typ":"JWT","alg":"HS256"}')


def _bound(cache: dict[Any, Any]) -> None:
    """Tokens are short-lived: starting over now and then is cheaper than ordering them."""
    if len(cache) >= _CACHE_LIMIT:
        cache.clear()
