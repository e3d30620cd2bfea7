"""Who may give what to whom: nobody gives, or takes charge of, more than they hold themselves."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from sqlalchemy.orm import Session

from yuanlian.contracts.tenant import PLATFORM
from yuanlian.kit.errors import AuthorizationError, FieldError, ValidationError
from yuanlian.kit.i18n import Text
from yuanlian.kit.identity.decision import Authorizer
from yuanlian.kit.identity.principal import Principal
from yuanlian.services.auth import repository
from yuanlian.services.auth.grants import Grants, Permission, combine, held_by
from yuanlian.services.auth.roles import built_in

BEYOND = Text("不能授予自己没有的权限", "You cannot grant a permission that you do not hold")
ABOVE = Text("不能管理权限高于自己的用户", "You cannot administer somebody who holds more than you")
NO_ROLE = Text("没有这个角色", "is not a role of this kindergarten")


class Authority:
    def __init__(self, authorizer: Authorizer) -> None:
        self._authorizer = authorizer

    def check(self, principal: Principal, permission: str, target_id: str) -> None:
        """Decides the caller's ``permission`` on one user or role, its conditions included.

        Raises:
            AuthorizationError
        """
        self._authorizer.check(principal, permission, _resource(principal, target_id))

    def allows(self, principal: Principal, permission: str, target_id: str) -> bool:
        return self._authorizer.allows(principal, permission, _resource(principal, target_id))

    def may_grant(self, principal: Principal, grants: Grants) -> None:
        """Raises ``AuthorizationError`` when they go beyond the caller's own."""
        if not held_by(principal).covers(grants):
            raise AuthorizationError(BEYOND)

    def may_administer(self, principal: Principal, grants: Grants) -> None:
        """Raises ``AuthorizationError`` when somebody with these holds more than the caller."""
        if not held_by(principal).covers(grants):
            raise AuthorizationError(ABOVE)


def is_operator(principal: Principal) -> bool:
    """Runs the platform: may seat people in any kindergarten."""
    return principal.tenant_id == PLATFORM and principal.holds_unconditionally("tenant.write")


def granted_to(session: Session, tenant_id: str, roles: Collection[str]) -> Grants:
    """What these roles of the tenant give together; a role that is gone gives nothing."""
    known = permissions_of(session, tenant_id, roles)
    return combine(permission for permissions in known.values() for permission in permissions)


def known_roles(session: Session, tenant_id: str, roles: Collection[str]) -> Grants:
    """As ``granted_to``, for roles about to be given.

    Raises:
        ValidationError: a role that this tenant does not have, by its place in ``roles``.
    """
    known = permissions_of(session, tenant_id, roles)
    missing = [FieldError(f"roles[{i}]", NO_ROLE) for i, id_ in enumerate(roles) if id_ not in known]
    if missing:
        raise ValidationError(details=missing)
    return combine(permission for permissions in known.values() for permission in permissions)


def permissions_of(
    session: Session, tenant_id: str, roles: Collection[str]
) -> Mapping[str, tuple[Permission, ...]]:
    """The permissions of each role that exists, by its id."""
    at_birth = built_in(tenant_id)
    found = {id_: at_birth[id_].permissions for id_ in roles if id_ in at_birth}
    own = [id_ for id_ in roles if id_ not in at_birth]
    for role in repository.roles(session, own) if own else ():
        found[role.id] = tuple(Permission(**p) for p in role.permissions)
    return found


def _resource(principal: Principal, target_id: str) -> dict[str, str]:
    return {"id": target_id, "tenantId": principal.tenant_id}
