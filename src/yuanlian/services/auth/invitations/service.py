"""The rules of taking a second seat.

Nobody is made a member with an account they have already: they are invited, and accept. Whoever
accepts shows the password that the kindergarten chose for the seat and gave to the person it meant;
else somebody could register a stranger's likely username first, and collect what is meant for them.
"""

from __future__ import annotations

import structlog
from sqlalchemy.orm import Session

from yuanlian.contracts.tenant import PLATFORM
from yuanlian.kit.database.database import Database, reads, writes
from yuanlian.kit.envelope import Page
from yuanlian.kit.errors import AuthorizationError, ConflictError, NotFoundError, ValidationError
from yuanlian.kit.i18n import Text
from yuanlian.kit.identity.principal import Principal
from yuanlian.kit.tenancy.directory import TenantDirectory
from yuanlian.kit.tenancy.scope import across_tenants, tenant_group, tenant_scope
from yuanlian.services.auth import repository
from yuanlian.services.auth.invitations.schemas import InvitationView
from yuanlian.services.auth.models import ACTIVE, Membership
from yuanlian.services.auth.passwords import Passwords
from yuanlian.services.auth.signin.belonging import SUSPENDED
from yuanlian.services.auth.signin.schemas import MembershipView
from yuanlian.services.auth.throttle import Throttle

NO_INVITATION = Text("没有这个邀请", "No such invitation")
OPERATOR = Text(
    "平台管理员不能加入幼儿园，请使用另一个账号",
    "An operator of the platform cannot have a seat in a kindergarten; use another account",
)
NOT_YOURS = Text(
    "请先修改密码：当前密码由管理员设置",
    "Change your password first: the present one was set by an administrator",
)
_log = structlog.get_logger("auth")


class InvitationService:
    """An invitation's id is its tenant's: a person has at most one seat in each."""

    def __init__(
        self,
        database: Database,
        *,
        directory: TenantDirectory,
        passwords: Passwords,
        throttle: Throttle,
    ) -> None:
        self.database = database
        self._directory = directory
        self._passwords = passwords
        self._throttle = throttle

    async def list_(self, principal: Principal) -> Page[InvitationView]:
        """To open kindergartens, the oldest first."""
        with across_tenants("the invitations of a user"):
            seats = await self._invitations(principal)
        found = [(seat, await self._directory.find(seat.tenant_id)) for seat in seats]
        items = [
            InvitationView(
                id=seat.tenant_id,
                tenantId=seat.tenant_id,
                tenantName=tenant.name,
                name=seat.name,
                roles=list(seat.roles),
                invitedAt=seat.created_at,
            )
            for seat, tenant in found
            if tenant is not None and tenant.status == "active"
        ]
        return Page(items, None, len(items))

    async def accept(
        self, principal: Principal, invitation_id: str, password: str, address: str
    ) -> MembershipView:
        """Makes the caller a member.

        Raises:
            NotFoundError: not invited there.
            ValidationError: not the password of the seat.
            AuthorizationError: an operator, or the kindergarten is suspended.
            ConflictError: whoever set the caller's password could follow into the new kindergarten.
            RateLimitedError: too many wrong passwords before.
        """
        with tenant_group({invitation_id, PLATFORM}):
            expected = await self._acceptable(principal, invitation_id)
        tenant = await self._directory.find(invitation_id)
        if tenant is None or tenant.status != "active":
            raise AuthorizationError(SUSPENDED)
        async with self._throttle.attempt(
            f"invitation {invitation_id}/{principal.user_id}", address
        ) as attempt:
            if not await self._passwords.verify(expected, password):
                await attempt.failed()
                raise _wrong()
            await attempt.succeeded()
        with tenant_scope(invitation_id):
            roles = await self._accept(principal, invitation_id, expected)
        _log.info("invitation accepted", user_id=principal.user_id, tenant_id=invitation_id)
        return MembershipView(invitation_id, tenant.name, roles)

    async def decline(self, principal: Principal, invitation_id: str) -> None:
        """Raises ``NotFoundError``."""
        with tenant_scope(invitation_id):
            await self._decline(principal, invitation_id)

    @reads
    def _invitations(self, session: Session, principal: Principal) -> list[Membership]:
        seats = repository.memberships_of(session, principal.user_id)
        return [seat for seat in seats if seat.to_be_accepted]

    @reads
    def _acceptable(self, session: Session, principal: Principal, tenant_id: str) -> str | None:
        """The hash to show the password of. The platform takes no account that exists already, so
        that whoever is no operator now will not be one later."""
        expected = _invitation(session, principal, tenant_id).invitation_hash
        if repository.membership(session, PLATFORM, principal.user_id) is not None:
            raise AuthorizationError(OPERATOR)
        return expected

    @writes
    def _accept(
        self, session: Session, principal: Principal, tenant_id: str, verified: str | None
    ) -> list[str]:
        seat = _invitation(session, principal, tenant_id)
        if seat.invitation_hash != verified:
            raise _wrong()  # another one was chosen meanwhile
        user = repository.user(session, principal.user_id)
        if user is None:
            raise NotFoundError(NO_INVITATION)
        if not user.chose_password:
            raise ConflictError(NOT_YOURS)
        seat.status, seat.invitation_hash = ACTIVE, None
        # Two kindergartens from here on: neither may take the account over, not even as the last one.
        user.managed_by = None
        return list(seat.roles)

    @writes
    def _decline(self, session: Session, principal: Principal, tenant_id: str) -> None:
        _invitation(session, principal, tenant_id)
        repository.delete_membership(session, principal.user_id)


def _invitation(session: Session, principal: Principal, tenant_id: str) -> Membership:
    seat = repository.membership(session, tenant_id, principal.user_id)
    if seat is None or not seat.to_be_accepted:
        raise NotFoundError(NO_INVITATION)
    return seat


def _wrong() -> ValidationError:
    return ValidationError.of(
        "password", "不是该园所提供的初始密码", "is not the password that the kindergarten gave you"
    )
