"""From ``Authorization: Bearer`` to a caller, remembered per token."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from yuanlian.gateway.failed_tokens import FailedTokens
from yuanlian.gateway.http import Headers, Request
from yuanlian.kit.clock import Clock
from yuanlian.kit.errors import AuthenticationError
from yuanlian.kit.identity.internal import HEADER, LIFETIME_S, InternalIdentity
from yuanlian.kit.identity.principal import Principal
from yuanlian.kit.identity.revocation import Revocations
from yuanlian.kit.identity.tokens import VerifiedToken

_CACHE_LIMIT = 50_000
_CHALLENGE = [("www-authenticate", "Bearer")]
_IDENTITY = HEADER.encode()


class TokenVerifier(Protocol):
    def verify(self, token: str) -> VerifiedToken:
        """Raises ``AuthenticationError`` for whatever is not a valid access token."""
        ...


class Caller:
    """What one access token proves, and ``headers``: how a service is told so."""

    __slots__ = ("expires_ms", "headers", "introduced_until_ms", "issued_at", "principal")

    def __init__(self, verified: VerifiedToken) -> None:
        self.principal: Principal = verified.principal
        self.issued_at = verified.issued_at
        self.expires_ms = verified.principal.expires_at * 1000
        self.headers: Headers = []
        self.introduced_until_ms = 0


class Authenticator:
    """The signature of a token is checked once; expiry and revocation on every request. ``failed``: counts
    for the address that ``network`` says of a request."""

    def __init__(
        self,
        verifier: TokenVerifier,
        revocations: Revocations,
        identity: InternalIdentity,
        clock: Clock,
        failed: FailedTokens,
        network: Callable[[Request], str],
    ) -> None:
        self._verifier = verifier
        self._revocations = revocations
        self._identity = identity
        self._clock = clock
        self._failed = failed
        self._network = network
        self._known: dict[bytes, Caller] = {}

    def authenticate(self, request: Request) -> Caller:
        """The caller.

        Raises:
            AuthenticationError: no token, or one that is forged, expired or revoked.
            LimitReachedError: none, from where too many came that were none.
        """
        header = request.first.get(b"authorization", b"")
        caller = self._known.get(header) or self._verify(header, request)
        now = self._clock.now_ms()
        if caller.expires_ms <= now:
            self._known.pop(header, None)
            raise AuthenticationError(headers=_CHALLENGE)
        if self._revocations.is_revoked(caller.principal, caller.issued_at):
            raise AuthenticationError(headers=_CHALLENGE)
        if caller.introduced_until_ms <= now:
            self._introduce(caller, now)
        return caller

    def _verify(self, header: bytes, request: Request) -> Caller:
        if not header:
            raise AuthenticationError(headers=_CHALLENGE)  # which costs nothing and is no attempt
        scheme, _, token = header.partition(b" ")
        if scheme.lower() == b"bearer" and (known := self._known.get(b"Bearer " + token)) is not None:
            return known
        try:
            caller = self._read(scheme, token)
        except AuthenticationError:
            self._failed.count(self._network(request))
            raise
        if scheme == b"Bearer":
            if len(self._known) >= _CACHE_LIMIT:
                self._known.clear()  # tokens are short-lived: starting over is cheaper than ordering them
            self._known[header] = caller
        return caller

    def _read(self, scheme: bytes, token: bytes) -> Caller:
        # One spelling for one token (RFC 6750 §2.1: a single space, none inside), or each other one would be
        # remembered beside it.
        if scheme.lower() != b"bearer" or not token.isascii() or token != token.strip():
            raise AuthenticationError(headers=_CHALLENGE)
        try:
            verified = self._verifier.verify(token.decode("ascii"))
        except AuthenticationError as error:
            raise AuthenticationError(error.message, error.details, _CHALLENGE) from None
        return Caller(verified)

    def _introduce(self, caller: Caller, now: int) -> None:
        """The signed token is good for at least half of its lifetime, a quarter of it is used."""
        principal = caller.principal
        caller.headers = [
            (_IDENTITY, self._identity.sign(principal).encode("ascii")),
            (b"x-tenant-id", principal.tenant_id.encode()),
        ]
        caller.introduced_until_ms = now + LIFETIME_S * 1000 // 4
