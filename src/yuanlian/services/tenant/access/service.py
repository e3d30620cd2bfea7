"""Decides about children, classes and staff.

A grant without a condition reaches everybody in the tenant. A grant with conditions is decided by
those (CEL, any of which suffices) for each row, and in lists it never reaches beyond the children a
user is tied to, whatever the condition says: the database only offers those, so a careless
condition cannot turn a list into the whole kindergarten, and a list costs what the user may see.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from sqlalchemy import ColumnElement
from sqlalchemy.orm import Session

from yuanlian.kit.errors import AuthorizationError
from yuanlian.kit.identity.decision import Authorizer
from yuanlian.kit.identity.principal import Principal
from yuanlian.services.tenant.access import repository
from yuanlian.services.tenant.access.attributes import NO_TIES, Attributes


class InClass(Protocol):
    """A child, as far as decisions go."""

    @property
    def id(self) -> str: ...

    @property
    def class_id(self) -> str: ...


class Access:
    """``resource`` of a condition always has ``id`` and ``classId``."""

    def __init__(self, authorizer: Authorizer) -> None:
        self._authorizer = authorizer

    def attributes(self, session: Session, principal: Principal, *permissions: str) -> Attributes:
        """The caller's ties; not looked up when none of the permissions has a condition."""
        if all(principal.holds_unconditionally(p) for p in permissions):
            return NO_TIES
        return repository.attributes_of(session, principal.user_id)

    def allows(
        self, principal: Principal, permission: str, resource: Mapping[str, Any], attributes: Attributes
    ) -> bool:
        if principal.holds_unconditionally(permission):
            return True
        return self._authorizer.allows(principal, permission, resource, attributes.as_user())

    def check(
        self, principal: Principal, permission: str, resource: Mapping[str, Any], attributes: Attributes
    ) -> None:
        """Raises ``AuthorizationError`` unless the caller may."""
        if not self.allows(principal, permission, resource, attributes):
            raise AuthorizationError

    def allows_student(
        self, principal: Principal, permission: str, student: InClass, attributes: Attributes
    ) -> bool:
        resource = {"id": student.id, "classId": student.class_id}
        return self.allows(principal, permission, resource, attributes)

    def check_student(
        self, principal: Principal, permission: str, student: InClass, attributes: Attributes
    ) -> None:
        if not self.allows_student(principal, permission, student, attributes):
            raise AuthorizationError

    def allows_class(
        self, principal: Principal, permission: str, class_id: str, attributes: Attributes
    ) -> bool:
        return self.allows(principal, permission, {"id": class_id, "classId": class_id}, attributes)

    def check_class(
        self, principal: Principal, permission: str, class_id: str, attributes: Attributes
    ) -> None:
        if not self.allows_class(principal, permission, class_id, attributes):
            raise AuthorizationError

    def decider(
        self, principal: Principal, permission: str, attributes: Attributes
    ) -> Callable[[str, str], bool]:
        """``allows`` for the rows of a list: called with ``id`` and ``classId`` of each."""
        decide = self._authorizer.decider(principal, permission, attributes.as_user())
        return lambda id_, class_id: decide({"id": id_, "classId": class_id})

    def student_candidates(
        self, principal: Principal, permission: str, attributes: Attributes
    ) -> ColumnElement[bool] | None:
        """What a list of children is limited to before each is decided; None: no limit."""
        unlimited = principal.holds_unconditionally(permission)
        return None if unlimited else repository.tied_students(attributes)

    def class_candidates(
        self, principal: Principal, permission: str, attributes: Attributes
    ) -> ColumnElement[bool] | None:
        unlimited = principal.holds_unconditionally(permission)
        return None if unlimited else repository.tied_classes(attributes)

    def staff_candidates(
        self, principal: Principal, permission: str, attributes: Attributes
    ) -> ColumnElement[bool] | None:
        unlimited = principal.holds_unconditionally(permission)
        return None if unlimited else repository.tied_staff(principal.user_id, attributes)
