"""The rules of signing in. CONTRACT §5."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy.orm import Session

from yuanlian.kit.clock import Clock
from yuanlian.kit.database.database import Database, reads, writes
from yuanlian.kit.envelope import Page
from yuanlian.kit.errors import AuthenticationError, NotFoundError, ValidationError
from yuanlian.kit.i18n import Text
from yuanlian.kit.identity.principal import Principal
from yuanlian.kit.identity.tokens import LIFETIME_S
from yuanlian.kit.tenancy.scope import tenant_scope
from yuanlian.services.auth import repository
from yuanlian.services.auth.models import Revocation, SignIn, User
from yuanlian.services.auth.passwords import Passwords, check_policy
from yuanlian.services.auth.revocation import RevocationLog
from yuanlian.services.auth.signin.belonging import Belongings, choose
from yuanlian.services.auth.signin.schemas import (
    LoginResult,
    Me,
    SessionView,
    SignedInUser,
    Tokens,
)
from yuanlian.services.auth.signin.sessions import Client, Opened, Reused, Sessions
from yuanlian.services.auth.throttle import Throttle
from yuanlian.services.auth.tokens import TokenIssuer, digest
from yuanlian.services.auth.usernames import normalised

WRONG = Text("用户名或密码错误", "Wrong username or password")
NO_SESSION = Text("会话不存在", "No such session")


class SignInService:
    def __init__(
        self,
        database: Database,
        *,
        issuer: TokenIssuer,
        sessions: Sessions,
        belongings: Belongings,
        passwords: Passwords,
        throttle: Throttle,
        log: RevocationLog,
        clock: Clock,
    ) -> None:
        self.database = database
        self._issuer = issuer
        self._sessions = sessions
        self._belongings = belongings
        self._passwords = passwords
        self._throttle = throttle
        self._log = log
        self._clock = clock

    async def login(self, username: str, password: str, tenant_id: str | None, client: Client) -> LoginResult:
        """Signs in to the wanted tenant, else the last used one, else the first.

        Raises:
            AuthenticationError: unknown user and wrong password look the same.
            AuthorizationError: not a member of that tenant, or it is suspended.
            RateLimitedError: too many wrong passwords before.
        """
        user = await self._authenticated(username, password, client.address)
        belongings = await self._belongings.of(user.id)
        chosen = choose(belongings, tenant_id)
        with tenant_scope(chosen.tenant_id):
            opened = await self._open(user, chosen.tenant_id, client)
        tokens = self._tokens(opened)
        return LoginResult(
            accessToken=tokens.accessToken,
            refreshToken=tokens.refreshToken,
            expiresIn=tokens.expiresIn,
            user=tokens.user,
            memberships=[belonging.view() for belonging in belongings],
        )

    async def refresh(self, secret: str) -> Tokens:
        """A new pair for a refresh token, which is spent by it.

        Raises:
            AuthenticationError: it is no longer good; when it was used before, nor is its session.
            AuthorizationError: no longer a member, or the tenant is suspended.
        """
        tenant_id = await self._tenant_of(secret)
        await self._belongings.require_open(tenant_id)
        with tenant_scope(tenant_id):
            renewed = await self._renew(secret)
        if isinstance(renewed, Reused):
            await self._log.tell([renewed.revoked])
            raise AuthenticationError
        return self._tokens(renewed)

    async def switch(self, principal: Principal, tenant_id: str) -> Tokens:
        """The same session in another of the caller's tenants, remembered as the last used."""
        chosen = choose(await self._belongings.of(principal.user_id), tenant_id)
        with tenant_scope(chosen.tenant_id):
            opened = await self._switch(principal, chosen.tenant_id)
        return self._tokens(opened)

    async def me(self, principal: Principal) -> Me:
        belongings = await self._belongings.of(principal.user_id)
        return Me(_user(principal), [belonging.view() for belonging in belongings])

    async def change_password(
        self, principal: Principal, current: str, following: str, client: Client
    ) -> int:
        """Also ends every other session of the user; returns how many.

        Raises:
            ValidationError: the current one is wrong, or the next one is not acceptable.
            RateLimitedError: too many wrong ones before.
        """
        user = await self._user(principal.user_id)
        if user is None:
            raise AuthenticationError
        async with self._throttle.attempt(user.username, client.address) as attempt:
            if not await self._passwords.verify(user.password_hash, current):
                await attempt.failed()
                raise ValidationError.of("current", "当前密码错误", "is not the current password")
            await attempt.succeeded()
        check_policy("next", following, user.username)
        if following == current:
            raise ValidationError.of("next", "新密码不能与当前密码相同", "must differ from the current one")
        revoked = await self._replace_password(
            principal, user.password_hash, await self._passwords.hash(following)
        )
        await self._log.tell(revoked)
        return len(revoked)

    @reads
    def sessions(self, session: Session, principal: Principal) -> Page[SessionView]:
        """The caller's own, newest first."""
        rows = repository.open_sign_ins(session, principal.user_id, self._clock.now_ms())
        return Page([_session(row, principal) for row in rows], None, len(rows))

    async def logout(self, principal: Principal) -> int:
        return await self._end(principal, [principal.session_id])

    async def end_session(self, principal: Principal, session_id: str) -> int:
        """Raises ``NotFoundError`` for a session that is not the caller's own, or over."""
        ended = await self._end(principal, [session_id])
        if not ended:
            raise NotFoundError(NO_SESSION)
        return ended

    async def end_others(self, principal: Principal) -> int:
        return await self._end(principal, None)

    async def _end(self, principal: Principal, ids: Collection[str] | None) -> int:
        revoked = await self._end_own(principal, ids)
        await self._log.tell(revoked)
        return len(revoked)

    async def _authenticated(self, username: str, password: str, address: str) -> User:
        name = normalised(username)
        async with self._throttle.attempt(name, address) as attempt:
            user = await self._named(name)
            right = await self._passwords.verify(user.password_hash if user else None, password)
            if user is None or not right or user.status != "active":
                await attempt.failed()
                raise AuthenticationError(WRONG)
            await attempt.succeeded()
            if self._passwords.outdated(user.password_hash):
                renewed = await self._passwords.hash(password)
                if await self._renew_hash(user.id, user.password_hash, renewed):
                    user.password_hash = renewed
        return user

    def _tokens(self, opened: Opened) -> Tokens:
        token = self._issuer.issue(opened.principal)
        return Tokens(token, opened.refresh_token, LIFETIME_S, _user(opened.principal))

    @reads
    def _named(self, session: Session, username: str) -> User | None:
        return repository.user_by_name(session, username)

    @reads
    def _user(self, session: Session, user_id: str) -> User | None:
        return repository.user(session, user_id)

    @reads
    def _tenant_of(self, session: Session, secret: str) -> str:
        token = repository.refresh_token(session, digest(secret))
        sign_in = repository.sign_in(session, token.session_id) if token else None
        if sign_in is None:
            raise AuthenticationError
        return sign_in.tenant_id

    @writes
    def _open(self, session: Session, verified: User, tenant_id: str, client: Client) -> Opened:
        user = repository.user(session, verified.id)
        if user is None or user.password_hash != verified.password_hash:
            # Changed while it was being verified: whoever changed it meant to lock the old one out.
            raise AuthenticationError(WRONG)
        return self._sessions.open(session, user.id, tenant_id, client)

    @writes
    def _renew(self, session: Session, secret: str) -> Opened | Reused:
        return self._sessions.renew(session, secret)

    @writes
    def _switch(self, session: Session, principal: Principal, tenant_id: str) -> Opened:
        return self._sessions.switch(session, principal, tenant_id)

    @writes
    def _renew_hash(self, session: Session, user_id: str, verified: str, renewed: str) -> bool:
        return repository.replace_password(session, user_id, verified, renewed)

    @writes
    def _replace_password(
        self, session: Session, principal: Principal, verified: str, password_hash: str
    ) -> list[Revocation]:
        """With the sessions that the old one opened: nothing of it outlives this transaction."""
        if not repository.replace_password(session, principal.user_id, verified, password_hash, chosen=True):
            raise AuthenticationError  # an administrator was faster, and ended this session too
        return self._end_sessions(session, principal, None)

    @writes
    def _end_own(
        self, session: Session, principal: Principal, ids: Collection[str] | None
    ) -> list[Revocation]:
        return self._end_sessions(session, principal, ids)

    def _end_sessions(
        self, session: Session, principal: Principal, ids: Collection[str] | None
    ) -> list[Revocation]:
        """Those of ``ids`` that are the caller's and open; without ``ids``, all but the current."""
        rows = repository.open_sign_ins(session, principal.user_id, self._clock.now_ms())
        ending = [
            row.id for row in rows if (row.id in ids if ids is not None else row.id != principal.session_id)
        ]
        return self._sessions.end(session, ending)


def _user(principal: Principal) -> SignedInUser:
    return SignedInUser(
        id=principal.user_id,
        name=principal.name,
        tenantId=principal.tenant_id,
        roles=list(principal.roles),
        permissions=sorted(principal.permissions),
    )


def _session(row: SignIn, principal: Principal) -> SessionView:
    return SessionView(
        id=row.id,
        tenantId=row.tenant_id,
        userAgent=row.user_agent,
        address=row.address,
        createdAt=row.created_at,
        lastUsedAt=row.last_used_at,
        expiresAt=row.expires_at,
        current=row.id == principal.session_id,
    )
