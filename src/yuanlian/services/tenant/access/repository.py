"""Reads the ties from the roster's own tables."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import ColumnElement, Select, and_, or_, select
from sqlalchemy.orm import Session

from yuanlian.kit.tenancy.scope import current_tenant
from yuanlian.services.tenant.access.attributes import Attributes
from yuanlian.services.tenant.roster.models import (
    Classroom,
    Guardian,
    Guardianship,
    Staff,
    StaffClass,
    Student,
)

TenantUser = tuple[str, str]
"""(tenant id, user id)"""


def attributes_of(session: Session, user_id: str) -> Attributes:
    """The ties of one user in the current tenant."""
    key = (current_tenant(), user_id)
    return attributes_of_many(session, [key])[key]


def attributes_of_many(session: Session, keys: Collection[TenantUser]) -> dict[TenantUser, Attributes]:
    """The ties of several users, each in its own tenant; two statements whatever the number.

    Runs inside a scope that covers the tenants (``tenant_group`` for a group commit). One user may
    be in several of them, so the pair decides, not the user alone. Every key is in the answer.
    """
    users = sorted({user for _, user in keys})
    taught: dict[TenantUser, set[str]] = {key: set() for key in keys}
    children: dict[TenantUser, set[str]] = {key: set() for key in keys}
    child_classes: dict[TenantUser, set[str]] = {key: set() for key in keys}

    for tenant, user, class_id in session.execute(
        select(StaffClass.tenant_id, StaffClass.user_id, StaffClass.class_id).where(
            StaffClass.user_id.in_(users)
        )
    ):
        if (tenant, user) in taught:
            taught[tenant, user].add(class_id)

    for tenant, parent, student_id, class_id, status in session.execute(_children_of(users)):
        if parent is not None and (tenant, parent) in children:
            children[tenant, parent].add(student_id)
            if status == "active":
                child_classes[tenant, parent].add(class_id)

    return {
        key: Attributes(frozenset(taught[key]), frozenset(children[key]), frozenset(child_classes[key]))
        for key in taught
    }


def _children_of(users: Collection[str]) -> Select[str, str | None, str, str, str]:
    return (
        select(Guardian.tenant_id, Guardian.user_id, Student.id, Student.class_id, Student.status)
        .join(
            Guardianship,
            and_(
                Guardianship.guardian_id == Guardian.id,
                # In a group the tenants must agree: ids are only unique within a tenant.
                Guardianship.tenant_id == Guardian.tenant_id,
            ),
        )
        .join(
            Student,
            and_(Student.id == Guardianship.student_id, Student.tenant_id == Guardianship.tenant_id),
        )
        .where(Guardian.user_id.in_(users))
    )


def tied_students(attributes: Attributes) -> ColumnElement[bool]:
    """Children in the classes somebody looks after, and their own."""
    return or_(Student.class_id.in_(attributes.class_ids), Student.id.in_(attributes.student_ids))


def tied_classes(attributes: Attributes) -> ColumnElement[bool]:
    """Classes somebody looks after, and those of their own children."""
    return Classroom.id.in_(attributes.class_ids | attributes.child_class_ids)


def tied_staff(user_id: str, attributes: Attributes) -> ColumnElement[bool]:
    """Oneself, and the staff of the classes one is tied to."""
    classes = attributes.class_ids | attributes.child_class_ids
    return or_(
        Staff.user_id == user_id,
        Staff.id.in_(select(StaffClass.staff_id).where(StaffClass.class_id.in_(classes))),
    )
