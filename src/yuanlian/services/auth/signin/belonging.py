"""Where a user may go: memberships whose tenant is open."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy.orm import Session

from yuanlian.kit.database.database import Database, reads
from yuanlian.kit.errors import AuthorizationError
from yuanlian.kit.i18n import Text
from yuanlian.kit.tenancy.directory import TenantDirectory
from yuanlian.kit.tenancy.scope import across_tenants
from yuanlian.services.auth import repository
from yuanlian.services.auth.models import Membership
from yuanlian.services.auth.signin.schemas import MembershipView

NOT_A_MEMBER = Text("您不是该园所的成员", "You are not a member of this kindergarten")
SUSPENDED = Text("该园所已停用", "This kindergarten is suspended")
NOWHERE = Text("您的账号没有可用的园所", "Your account belongs to no open kindergarten")


@dataclass(frozen=True, slots=True)
class Belonging:
    tenant_id: str
    tenant_name: str
    roles: tuple[str, ...]
    last_used_at: int

    def view(self) -> MembershipView:
        return MembershipView(self.tenant_id, self.tenant_name, list(self.roles))


class Belongings:
    def __init__(self, database: Database, directory: TenantDirectory) -> None:
        self.database = database
        self._directory = directory

    async def of(self, user_id: str) -> list[Belonging]:
        """Memberships that may be entered, in open tenants, the oldest first."""
        with across_tenants("the memberships of a user who signs in"):
            memberships = await self._memberships(user_id)
        found = [(m, await self._directory.find(m.tenant_id)) for m in memberships]
        return [
            Belonging(m.tenant_id, tenant.name, tuple(m.roles), m.last_used_at or 0)
            for m, tenant in found
            if tenant is not None and tenant.status == "active"
        ]

    async def require_open(self, tenant_id: str) -> None:
        """Raises ``AuthorizationError`` for a tenant that is suspended or gone."""
        tenant = await self._directory.find(tenant_id)
        if tenant is None or tenant.status != "active":
            raise AuthorizationError(SUSPENDED)

    @reads
    def _memberships(self, session: Session, user_id: str) -> list[Membership]:
        return [m for m in repository.memberships_of(session, user_id) if m.may_be_entered]


def choose(belongings: Sequence[Belonging], wanted: str | None) -> Belonging:
    """The wanted one; else the last used, else the first.

    Raises:
        AuthorizationError: not a member (or of a suspended tenant, which is not told apart).
    """
    if wanted is not None:
        for belonging in belongings:
            if belonging.tenant_id == wanted:
                return belonging
        raise AuthorizationError(NOT_A_MEMBER)
    if not belongings:
        raise AuthorizationError(NOWHERE)
    return max(belongings, key=lambda belonging: belonging.last_used_at)
