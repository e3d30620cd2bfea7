"""The rules of administering a kindergarten's users.

An account is a person's, and may be used in several kindergartens; each of them administers only
its membership, and sees only what it wrote there itself. Who has an account already is invited, and
becomes a member by accepting (``invitations``).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import structlog
from msgspec import UNSET
from sqlalchemy.orm import Session

from yuanlian.contracts.auth import MEMBER_REMOVED, MemberRemoved
from yuanlian.contracts.tenant import PLATFORM
from yuanlian.kit.clock import Clock
from yuanlian.kit.database.database import Database, reads, writes
from yuanlian.kit.envelope import Page
from yuanlian.kit.errors import AuthorizationError, ConflictError, NotFoundError
from yuanlian.kit.http.pagination import decode_cursor, encode_cursor
from yuanlian.kit.i18n import Text
from yuanlian.kit.identity.principal import Principal
from yuanlian.kit.messaging import outbox
from yuanlian.kit.messaging.message import Message
from yuanlian.kit.tenancy.directory import TenantDirectory
from yuanlian.kit.tenancy.scope import across_tenants, tenant_scope
from yuanlian.services.auth import repository
from yuanlian.services.auth.authority import Authority, granted_to, is_operator, known_roles
from yuanlian.services.auth.members.schemas import NewUser, Seated, UserChange, UserView
from yuanlian.services.auth.members.seating import Newcomer, seat
from yuanlian.services.auth.models import INVITED, Membership, Revocation, User
from yuanlian.services.auth.passwords import Passwords, check_policy
from yuanlian.services.auth.revocation import RevocationLog
from yuanlian.services.auth.roles import PRINCIPAL
from yuanlian.services.auth.signin.sessions import Sessions
from yuanlian.services.auth.throttle import Throttle
from yuanlian.services.auth.usernames import check_username, normalised

READ, WRITE = "user.read", "user.write"
NO_USER = Text("没有这个用户", "No such user")
NOT_TAKEN = Text("本人尚未加入，可移除该用户", "The person has not taken the seat yet; you can remove it")
ONLY_PRINCIPALS = Text(
    "平台管理员只能为幼儿园添加园长", "Operators add nobody but principals to a kindergarten"
)
SHARED = Text(
    "该账号不由本园独自管理，请本人修改密码", "Only the person can change the password of this account"
)
ONESELF = Text(
    "不能更改自己的角色、状态或密码，也不能移除自己",
    "You cannot change your own roles, status or password here",
)
NO_TENANT = Text("租户不存在", "No such kindergarten")
_log = structlog.get_logger("auth")


class MemberService:
    def __init__(
        self,
        database: Database,
        *,
        directory: TenantDirectory,
        authority: Authority,
        passwords: Passwords,
        sessions: Sessions,
        throttle: Throttle,
        log: RevocationLog,
        clock: Clock,
    ) -> None:
        self.database = database
        self._directory = directory
        self._authority = authority
        self._passwords = passwords
        self._sessions = sessions
        self._throttle = throttle
        self._log = log
        self._clock = clock

    @reads
    def list_(self, session: Session, principal: Principal, cursor: str | None, limit: int) -> Page[UserView]:
        """Members in order of their accounts' creation."""
        key = decode_cursor(cursor, str, of="users")
        rows = repository.members(session, str(key[0]) if key else None, limit + 1)
        following = encode_cursor(rows[limit - 1][1].id, of="users") if len(rows) > limit else None
        items = [_view(*row) for row in rows[:limit] if self._authority.allows(principal, READ, row[1].id)]
        total = repository.count_members(session) if principal.holds_unconditionally(READ) else None
        return Page(items, following, total)

    @reads
    def get(self, session: Session, principal: Principal, user_id: str) -> UserView:
        found = _member(session, user_id)
        self._authority.check(principal, READ, user_id)
        return _view(*found)

    async def create(self, principal: Principal, body: NewUser) -> UserView:
        """An invited member, with a new account or for an account that exists: see ``seat``.

        Raises:
            ConflictError: a member already; among operators, the username is taken.
            AuthorizationError: the roles hold more than the caller does.
        """
        tenant_id = await self._tenant_for(principal, body.tenantId)
        username = normalised(body.username)
        check_username(username)
        check_policy("password", body.password, username)
        newcomer = Newcomer(username, await self._passwords.hash(body.password), body)
        with tenant_scope(tenant_id):
            view = await self._create(principal, tenant_id, newcomer)
        if tenant_id != principal.tenant_id:
            _log.warning(
                "operator seated a principal",
                operator=principal.user_id,
                username=username,
                seated=view.id,
                tenant_id=tenant_id,
            )
        return view

    async def change(self, principal: Principal, user_id: str, body: UserChange) -> UserView:
        """Another role or status ends what the old one allowed at once; a new password ends every
        session.

        Raises:
            AuthorizationError: oneself, somebody who holds more, or the password of an account that
                this kindergarten did not create, or that another one has used too.
            ConflictError: the status of somebody who has not taken the seat yet.
        """
        password_hash = None
        if body.password is not UNSET:
            check_policy("password", body.password, await self._username(user_id))
            password_hash = await self._passwords.hash(body.password)
        view, revoked = await self._change(principal, user_id, body, password_hash)
        await self._log.tell(revoked)
        return view

    async def remove(self, principal: Principal, user_id: str) -> None:
        """Ends the membership; an account that is left without any goes with it."""
        await self._log.tell(await self._remove(principal, user_id))
        with across_tenants("whether a removed member belongs anywhere else"):
            await self._settle(user_id)

    async def _tenant_for(self, principal: Principal, wanted: str | None) -> str:
        if wanted is None or wanted == principal.tenant_id:
            self._authority.check(principal, WRITE, "")
            return principal.tenant_id
        if not is_operator(principal):
            raise AuthorizationError
        if await self._directory.find(wanted) is None:
            raise NotFoundError(NO_TENANT)
        return wanted

    @reads
    def _username(self, session: Session, user_id: str) -> str:
        return _member(session, user_id)[1].username

    @writes
    def _create(self, session: Session, principal: Principal, tenant_id: str, newcomer: Newcomer) -> UserView:
        grants = known_roles(session, tenant_id, newcomer.body.roles)
        if tenant_id == principal.tenant_id:
            self._authority.may_grant(principal, grants)
        elif set(newcomer.body.roles) != {PRINCIPAL}:
            raise AuthorizationError(ONLY_PRINCIPALS)
        # Operators stay apart from kindergartens: an account is never of both.
        new_account = principal.tenant_id == PLATFORM
        return _view(*seat(session, tenant_id, newcomer, self._clock.now_ms(), new_account=new_account))

    @writes
    def _change(
        self,
        session: Session,
        principal: Principal,
        user_id: str,
        body: UserChange,
        password_hash: str | None,
    ) -> tuple[UserView, list[Revocation]]:
        member, user = self._administrable(session, principal, user_id)
        powers = (body.roles, body.status, body.password)
        if user_id == principal.user_id and any(power is not UNSET for power in powers):
            raise AuthorizationError(ONESELF)
        _describe(member, body)
        revoked: list[Revocation] = []
        if password_hash is not None:
            revoked += self._reset_password(session, member, user, password_hash)
        if self._change_powers(session, principal, member, body):
            revoked.append(self._log.member_revoked(session, member.tenant_id, user_id))
        return _view(member, user), revoked

    def _administrable(self, session: Session, principal: Principal, user_id: str) -> tuple[Membership, User]:
        """A member of the caller's kindergarten who does not hold more than the caller."""
        member, user = _member(session, user_id)
        self._authority.check(principal, WRITE, user_id)
        grants = granted_to(session, member.tenant_id, member.roles)
        self._authority.may_administer(principal, grants)
        return member, user

    def _change_powers(
        self, session: Session, principal: Principal, member: Membership, body: UserChange
    ) -> bool:
        before = (member.roles, member.status)
        if body.roles is not UNSET:
            grants = known_roles(session, member.tenant_id, body.roles)
            self._authority.may_grant(principal, grants)
            member.roles = list(dict.fromkeys(body.roles))
        if body.status is not UNSET:
            if member.status == INVITED:
                raise ConflictError(NOT_TAKEN)
            member.status = body.status
        return (member.roles, member.status) != before

    def _reset_password(
        self, session: Session, member: Membership, user: User, password_hash: str
    ) -> Iterable[Revocation]:
        if member.to_be_accepted:
            member.invitation_hash = password_hash
            return []
        if user.managed_by != member.tenant_id:
            raise AuthorizationError(SHARED)
        user.password_hash, user.chose_password = password_hash, False
        self._throttle.forgive(session, user.username)
        rows = repository.open_sign_ins(session, user.id, self._clock.now_ms())
        return self._sessions.end(session, [row.id for row in rows])

    @writes
    def _remove(self, session: Session, principal: Principal, user_id: str) -> list[Revocation]:
        member, _ = self._administrable(session, principal, user_id)
        if user_id == principal.user_id:
            raise AuthorizationError(ONESELF)
        repository.delete_membership(session, user_id)
        outbox.add(session, [Message.new(MEMBER_REMOVED, member.tenant_id, MemberRemoved(user_id))])
        now = self._clock.now_ms()
        here = [
            row.id
            for row in repository.open_sign_ins(session, user_id, now)
            if row.tenant_id == member.tenant_id
        ]
        return [
            *self._sessions.end(session, here),
            self._log.member_revoked(session, member.tenant_id, user_id),
        ]

    @writes
    def _settle(self, session: Session, user_id: str) -> None:
        if all(left.to_be_accepted for left in repository.memberships_of(session, user_id)):
            # Without a seat nobody can sign in, so nobody could accept any more either.
            repository.delete_membership(session, user_id)
            repository.forget_sign_ins(session, user_id)
            repository.delete_user(session, user_id)


def _member(session: Session, user_id: str) -> tuple[Membership, User]:
    found = repository.member(session, user_id)
    if found is None:
        raise NotFoundError(NO_USER)
    return found


def _describe(member: Membership, body: UserChange) -> None:
    if body.name is not UNSET:
        member.name = body.name.strip()
    if body.phone is not UNSET:
        member.phone = body.phone
    if body.email is not UNSET:
        member.email = body.email


def _view(member: Membership, user: User) -> UserView:
    return UserView(
        id=user.id,
        username=user.username,
        name=member.name,
        phone=member.phone,
        email=member.email,
        roles=list(member.roles),
        status=cast(Seated, member.status),
        lastUsedAt=member.last_used_at,
        createdAt=member.created_at,
    )
