"""Opening, renewing and ending sessions: each function is part of one transaction."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy.orm import Session

from yuanlian.kit.clock import Clock
from yuanlian.kit.errors import AuthenticationError, AuthorizationError
from yuanlian.kit.identity.principal import Principal
from yuanlian.kit.identity.tokens import LIFETIME_S
from yuanlian.kit.ids import new_id
from yuanlian.services.auth import repository
from yuanlian.services.auth.authority import granted_to
from yuanlian.services.auth.models import ACTIVE, Membership, RefreshToken, Revocation, SignIn
from yuanlian.services.auth.revocation import RevocationLog
from yuanlian.services.auth.signin.belonging import NOT_A_MEMBER
from yuanlian.services.auth.tokens import digest, new_refresh_token

REFRESH_LIFETIME_MS = 30 * 24 * 3600 * 1000
OPEN_LIMIT = 100
"""Sessions per user; the least recently used make room. A script that signs in anew each time
would otherwise fill the table for ``REFRESH_LIFETIME_MS``."""
GRACE_MS = 10_000
"""A client that lost the answer may present its previous refresh token again (CONTRACT §5)."""


@dataclass(frozen=True, slots=True)
class Client:
    """``address`` as the gateway saw it; ``user_agent`` is only for people to recognise a device."""

    address: str
    user_agent: str


@dataclass(frozen=True, slots=True)
class Opened:
    principal: Principal
    refresh_token: str


@dataclass(frozen=True, slots=True)
class Reused:
    """A refresh token that was used before: whoever has it, the session is over."""

    revoked: Revocation


class Sessions:
    def __init__(self, log: RevocationLog, clock: Clock) -> None:
        self._log = log
        self._clock = clock

    def open(self, session: Session, user_id: str, tenant_id: str, client: Client) -> Opened:
        """A new session of a member, in that tenant's scope."""
        now = self._clock.now_ms()
        repository.forget_sign_ins(session, user_id, expired_before=now)
        oldest = repository.open_sign_ins(session, user_id, now)[OPEN_LIMIT - 1 :]
        repository.end_sign_ins(session, [sign_in.id for sign_in in oldest], now)
        sign_in = SignIn(
            id=new_id("session"),
            user_id=user_id,
            tenant_id=tenant_id,
            user_agent=client.user_agent[:256],
            address=client.address[:64],
            created_at=now,
        )
        return self._enter(session, sign_in, tenant_id)

    def renew(self, session: Session, secret: str) -> Opened | Reused:
        """Exchanges a refresh token, in the scope of its session's tenant.

        Raises:
            AuthenticationError: unknown, expired, or of an ended session.
        """
        now = self._clock.now_ms()
        token = repository.refresh_token(session, digest(secret))
        if token is None or token.expires_at <= now:
            raise AuthenticationError
        if token.used_at is not None and now - token.used_at > GRACE_MS:
            return Reused(self.end(session, [token.session_id])[0])
        sign_in = self.living(session, token.session_id)
        # Of a token within its grace the first use counts, or the grace would never end.
        token.used_at = token.used_at or now
        repository.forget_old_refresh_tokens(session, sign_in.id, now)
        return self._enter(session, sign_in, sign_in.tenant_id)

    def switch(self, session: Session, principal: Principal, tenant_id: str) -> Opened:
        """The same session in another tenant, in the other tenant's scope.

        Raises:
            AuthenticationError: the session has ended.
            AuthorizationError: not a member there.
        """
        sign_in = self.living(session, principal.session_id)
        repository.retire_refresh_tokens(session, sign_in.id, self._clock.now_ms())
        return self._enter(session, sign_in, tenant_id)

    def end(self, session: Session, ids: Collection[str]) -> list[Revocation]:
        """Ends sessions; to be told once it is committed."""
        repository.end_sign_ins(session, ids, self._clock.now_ms())
        return [self._log.session_revoked(session, id_) for id_ in ids]

    def living(self, session: Session, session_id: str) -> SignIn:
        sign_in = repository.sign_in(session, session_id)
        now = self._clock.now_ms()
        if sign_in is None or sign_in.revoked_at is not None or sign_in.expires_at <= now:
            raise AuthenticationError
        return sign_in

    def _enter(self, session: Session, sign_in: SignIn, tenant_id: str) -> Opened:
        now = self._clock.now_ms()
        member = self._entering_member(session, tenant_id, sign_in.user_id)
        member.last_used_at = now
        sign_in.tenant_id = tenant_id
        sign_in.last_used_at = now
        sign_in.expires_at = now + REFRESH_LIFETIME_MS
        secret = new_refresh_token()
        session.add_all(
            [
                sign_in,
                RefreshToken(
                    digest=digest(secret),
                    session_id=sign_in.id,
                    created_at=now,
                    expires_at=sign_in.expires_at,
                ),
            ]
        )
        return Opened(self._principal(session, member, sign_in.id), secret)

    def _entering_member(self, session: Session, tenant_id: str, user_id: str) -> Membership:
        user = repository.user(session, user_id)
        if user is None or user.status != "active":
            raise AuthenticationError
        member = repository.membership(session, tenant_id, user_id)
        if member is None or not member.may_be_entered:
            raise AuthorizationError(NOT_A_MEMBER)
        # A new account, whose first password is the seat's.
        member.status = ACTIVE
        return member

    def _principal(self, session: Session, member: Membership, session_id: str) -> Principal:
        grants = granted_to(session, member.tenant_id, member.roles)
        issued_at = self._log.first_valid_second(session, member.tenant_id, member.user_id)
        return Principal(
            user_id=member.user_id,
            tenant_id=member.tenant_id,
            roles=tuple(member.roles),
            permissions=grants.permissions,
            conditions=grants.conditions,
            session_id=session_id,
            name=member.name,
            expires_at=issued_at + LIFETIME_S,
        )
