"""The rules of a kindergarten's own roles, beside the built-in ones that nobody changes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from msgspec import UNSET
from sqlalchemy.orm import Session

from yuanlian.contracts.tenant import PLATFORM
from yuanlian.kit.clock import Clock
from yuanlian.kit.context import current
from yuanlian.kit.database.database import Database, reads, writes
from yuanlian.kit.envelope import Page
from yuanlian.kit.errors import (
    AuthorizationError,
    ConflictError,
    FieldError,
    NotFoundError,
    ValidationError,
)
from yuanlian.kit.i18n import Text
from yuanlian.kit.identity.decision import ConditionError, compiled
from yuanlian.kit.identity.principal import Principal
from yuanlian.kit.ids import new_id
from yuanlian.services.auth import repository
from yuanlian.services.auth.authority import Authority
from yuanlian.services.auth.custom_roles.schemas import (
    NewRole,
    PermissionIn,
    PermissionOut,
    PermissionView,
    RoleChange,
    RoleView,
)
from yuanlian.services.auth.grants import Permission, combine
from yuanlian.services.auth.models import Revocation, Role
from yuanlian.services.auth.revocation import RevocationLog
from yuanlian.services.auth.roles import CATALOGUE, built_in

READ, WRITE = "role.read", "role.write"
LIMIT = 100
"""Roles per kindergarten."""
CONDITIONS_LIMIT = 2000
"""Characters of conditions per role: they travel in every access token, which has 8 KiB."""

NO_ROLE = Text("没有这个角色", "No such role")
BUILT_IN = Text("内置角色不能修改", "Built-in roles cannot be changed")
TAKEN = Text("角色名称已被使用", "The name is taken by another role")
IN_USE = Text("还有用户持有该角色", "Some users still have this role")
UNCONDITIONAL = Text(
    "该权限不能附加条件", "cannot be put on this permission, which is held always or not at all"
)
FULL = Text("角色数量已达上限", "There are too many roles")


class RoleService:
    def __init__(self, database: Database, *, authority: Authority, log: RevocationLog, clock: Clock) -> None:
        self.database = database
        self._authority = authority
        self._log = log
        self._clock = clock

    @reads
    def list_(self, session: Session, principal: Principal) -> Page[RoleView]:
        """Built-in roles first."""
        locale = current().locale
        items = [
            RoleView(role.id, role.name.render(locale), True, _out(role.permissions))
            for role in built_in(principal.tenant_id).values()
        ]
        items.extend(_view(role) for role in repository.roles(session))
        visible = [item for item in items if self._authority.allows(principal, READ, item.id)]
        return Page(visible, None, len(visible))

    def catalogue(self, principal: Principal) -> Page[PermissionView]:
        """The permissions that roles of this tenant are made of."""
        locale = current().locale
        items = [
            PermissionView(
                f"{resource}.{action}", resource, action, kind.title.render(locale), kind.conditional
            )
            for (resource, action), kind in CATALOGUE.items()
            if resource != "tenant" or principal.tenant_id == PLATFORM
        ]
        return Page(items, None, len(items))

    @writes
    def create(self, session: Session, principal: Principal, body: NewRole) -> RoleView:
        """Raises:
        AuthorizationError: it holds more than the caller.
        ConflictError: the name is taken.
        ValidationError: an unknown permission or a condition that is none, by its place.
        """
        permissions = _checked(body.permissions)
        self._authority.check(principal, WRITE, "")
        self._authority.may_grant(principal, combine(permissions))
        if len(repository.roles(session)) >= LIMIT:
            raise ConflictError(FULL)
        role = Role(
            tenant_id=principal.tenant_id,
            id=new_id("role"),
            name=_free_name(session, principal, body.name),
            permissions=_stored(permissions),
            created_at=self._clock.now_ms(),
        )
        repository.save_role(session, role)
        return _view(role)

    async def change(self, principal: Principal, role_id: str, body: RoleChange) -> RoleView:
        """Other permissions end the tokens of everybody who has the role. Raises as ``create``."""
        view, revoked = await self._change(principal, role_id, body)
        await self._log.tell(revoked)
        return view

    @writes
    def delete(self, session: Session, principal: Principal, role_id: str) -> None:
        """Raises ``ConflictError`` while somebody has it."""
        role = self._changeable(session, principal, role_id)
        if _holders(session, role.id):
            raise ConflictError(IN_USE)
        repository.delete_role(session, role.id)

    @writes
    def _change(
        self, session: Session, principal: Principal, role_id: str, body: RoleChange
    ) -> tuple[RoleView, list[Revocation]]:
        role = self._changeable(session, principal, role_id)
        if body.name is not UNSET and body.name.strip() != role.name:
            role.name = _free_name(session, principal, body.name)
        revoked: list[Revocation] = []
        if body.permissions is not UNSET:
            permissions = _checked(body.permissions)
            self._authority.may_grant(principal, combine(permissions))
            if _stored(permissions) != role.permissions:
                role.permissions = _stored(permissions)
                revoked = [
                    self._log.member_revoked(session, role.tenant_id, user_id)
                    for user_id in _holders(session, role.id)
                ]
        repository.save_role(session, role)
        return _view(role), revoked

    def _changeable(self, session: Session, principal: Principal, role_id: str) -> Role:
        """One of the kindergarten's own that does not hold more than the caller."""
        if role_id in built_in(principal.tenant_id):
            raise AuthorizationError(BUILT_IN)
        found = repository.roles(session, [role_id])
        if not found:
            raise NotFoundError(NO_ROLE)
        self._authority.check(principal, WRITE, role_id)
        self._authority.may_grant(principal, combine(_loaded(found[0])))
        return found[0]


def _checked(permissions: Sequence[PermissionIn]) -> list[Permission]:
    problems = [
        problem for index, p in enumerate(permissions) for problem in _problems(f"permissions[{index}]", p)
    ]
    if sum(len(p.condition or "") for p in permissions) > CONDITIONS_LIMIT:
        problems.append(
            FieldError("permissions", Text("条件表达式总长度过长", "has too many characters of conditions"))
        )
    if problems:
        raise ValidationError(details=problems)
    # In one order and without repeats, so that "changed" means changed.
    return sorted({Permission(p.resource, p.action, p.condition) for p in permissions}, key=_order)


def _problems(path: str, permission: PermissionIn) -> Iterable[FieldError]:
    kind = CATALOGUE.get((permission.resource, permission.action))
    if kind is None:
        yield FieldError(path, Text("没有这个权限", "is not a permission"))
    if permission.condition is not None:
        if kind is not None and not kind.conditional:
            yield FieldError(f"{path}.condition", UNCONDITIONAL)
        condition = compiled(permission.condition)
        if isinstance(condition, ConditionError):
            yield FieldError(
                f"{path}.condition", Text("不是有效的 CEL 条件表达式", f"is not a condition: {condition}")
            )


def _order(permission: Permission) -> tuple[str, str]:
    return permission.name, permission.condition or ""


def _free_name(session: Session, principal: Principal, name: str) -> str:
    name = name.strip()
    at_birth = {text for role in built_in(principal.tenant_id).values() for text in (role.id, *role.name)}
    if name in at_birth or repository.role_named(session, name) is not None:
        raise ConflictError(TAKEN)
    return name


def _holders(session: Session, role_id: str) -> list[str]:
    return [user_id for user_id, roles in repository.roles_of_members(session) if role_id in roles]


def _stored(permissions: Iterable[Permission]) -> list[dict[str, Any]]:
    return [permission._asdict() for permission in permissions]


def _loaded(role: Role) -> list[Permission]:
    return [Permission(**permission) for permission in role.permissions]


def _out(permissions: Iterable[Permission]) -> list[PermissionOut]:
    return [PermissionOut(*permission) for permission in permissions]


def _view(role: Role) -> RoleView:
    return RoleView(role.id, role.name, False, _out(_loaded(role)))
