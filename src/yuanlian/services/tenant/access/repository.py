"""Reads the ties from the roster's own tables."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import BindParameter, ColumnElement, and_, bindparam, or_, select
from sqlalchemy.orm import Session

from yuanlian.kit.database.bulk import few_lengths
from yuanlian.kit.database.schema import table_of
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

_STAFF_CLASSES = table_of(StaffClass)
_GUARDIANS = table_of(Guardian)
_GUARDIANSHIPS = table_of(Guardianship)
_STUDENTS = table_of(Student)
_USERS: BindParameter[list[str]] = bindparam("users", expanding=True)

_TAUGHT = select(_STAFF_CLASSES.c.tenant_id, _STAFF_CLASSES.c.user_id, _STAFF_CLASSES.c.class_id).where(
    _STAFF_CLASSES.c.user_id.in_(_USERS)
)
_CHILDREN = (
    select(
        _GUARDIANS.c.tenant_id,
        _GUARDIANS.c.user_id,
        _STUDENTS.c.id,
        _STUDENTS.c.class_id,
        _STUDENTS.c.status,
    )
    # In this order: MySQL, whose statistics lag behind an import, else reads every guardianship there is.
    .prefix_with("STRAIGHT_JOIN", dialect="mysql")
    .select_from(_GUARDIANS)
    .join(
        _GUARDIANSHIPS,
        and_(
            _GUARDIANSHIPS.c.guardian_id == _GUARDIANS.c.id,
            # In a group the tenants must agree: ids are only unique within a tenant.
            _GUARDIANSHIPS.c.tenant_id == _GUARDIANS.c.tenant_id,
        ),
    )
    .join(
        _STUDENTS,
        and_(
            _STUDENTS.c.id == _GUARDIANSHIPS.c.student_id,
            _STUDENTS.c.tenant_id == _GUARDIANSHIPS.c.tenant_id,
        ),
    )
    .where(_GUARDIANS.c.user_id.in_(_USERS))
)


def attributes_of(session: Session, user_id: str) -> Attributes:
    """The ties of one user in the current tenant."""
    key = (current_tenant(), user_id)
    return attributes_of_many(session, [key])[key]


def attributes_of_many(session: Session, keys: Collection[TenantUser]) -> dict[TenantUser, Attributes]:
    """The ties of several users, each in its own tenant; two statements whatever the number.

    Runs inside a scope that covers the tenants (``tenant_group`` for a group commit). One user may
    be in several of them, so the pair decides, not the user alone. Every key is in the answer.
    """
    users = few_lengths(sorted({user for _, user in keys}))
    taught: dict[TenantUser, set[str]] = {key: set() for key in keys}
    children: dict[TenantUser, set[str]] = {key: set() for key in keys}
    child_classes: dict[TenantUser, set[str]] = {key: set() for key in keys}
    connection = session.connection()  # past the ORM: a group commit asks this for every group

    for tenant, user, class_id in connection.execute(_TAUGHT, {"users": users}):
        if (tenant, user) in taught:
            taught[tenant, user].add(class_id)

    for tenant, parent, student_id, class_id, status in connection.execute(_CHILDREN, {"users": users}):
        if (tenant, parent) in children:
            children[tenant, parent].add(student_id)
            if status == "active":
                child_classes[tenant, parent].add(class_id)

    return {
        key: Attributes(frozenset(taught[key]), frozenset(children[key]), frozenset(child_classes[key]))
        for key in taught
    }


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
