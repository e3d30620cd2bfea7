"""From ``Authorization: Bearer`` to a principal, remembered per token."""

from __future__ import annotations

from typing import Protocol

from yuanlian.gateway.http import Request
from yuanlian.kit.clock import Clock
from yuanlian.kit.errors import AuthenticationError
from yuanlian.kit.identity.principal import Principal
from yuanlian.kit.identity.revocation import Revocations
from yuanlian.kit.identity.tokens import VerifiedToken

_CACHE_LIMIT = 50_000
_CHALLENGE = [("www-authenticate", "Bearer")]


class TokenVerifier(Protocol):
    def verify(self, token: str) -> VerifiedToken:
        """Raises ``AuthenticationError`` for whatever is not a valid access token."""
        ...


class Authenticator:
    """The signature of a token is checked once; expiry and revocation on every request."""

    def __init__(self, verifier: TokenVerifier, revocations: Revocations, clock: Clock) -> None:
        self._verifier = verifier
        self._revocations = revocations
        self._clock = clock
        self._known: dict[bytes, VerifiedToken] = {}

    def authenticate(self, request: Request) -> Principal:
        """The caller.

        Raises:
            AuthenticationError: no token, or one that is forged, expired or revoked.
        """
        header = request.first.get(b"authorization", b"")
        verified = self._known.get(header) or self._verify(header)
        principal = verified.principal
        if principal.expires_at * 1000 <= self._clock.now_ms():
            self._known.pop(header, None)
            raise AuthenticationError(headers=_CHALLENGE)
        if self._revocations.is_revoked(principal, verified.issued_at):
            raise AuthenticationError(headers=_CHALLENGE)
        return principal

    def _verify(self, header: bytes) -> VerifiedToken:
        scheme, _, token = header.partition(b" ")
        if scheme.lower() != b"bearer" or not token.isascii():
            raise AuthenticationError(headers=_CHALLENGE)
        try:
            verified = self._verifier.verify(token.strip().decode("ascii"))
        except AuthenticationError as error:
            raise AuthenticationError(error.message, error.details, _CHALLENGE) from None
        if len(self._known) >= _CACHE_LIMIT:
            self._known.clear()  # tokens are short-lived: starting over is cheaper than ordering them
        self._known[header] = verified
        return verified
