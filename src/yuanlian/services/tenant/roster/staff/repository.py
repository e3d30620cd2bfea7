"""SQL of staff and of the classes they look after."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sqlalchemy import ColumnElement, delete, func, insert, select
from sqlalchemy.orm import Session

from yuanlian.kit.tenancy.scope import current_tenant
from yuanlian.services.tenant.roster.models import Staff, StaffClass


def get(session: Session, staff_id: str) -> Staff | None:
    return session.get(Staff, (current_tenant(), staff_id))


def by_user(session: Session, user_id: str) -> Staff | None:
    return session.scalar(select(Staff).where(Staff.user_id == user_id))


def page(
    session: Session, candidates: ColumnElement[bool] | None, after: str | None, limit: int
) -> Sequence[Staff]:
    """Up to ``limit`` members of staff in order of id, after that id."""
    statement = select(Staff).order_by(Staff.id).limit(limit)
    if candidates is not None:
        statement = statement.where(candidates)
    if after is not None:
        statement = statement.where(Staff.id > after)
    return session.scalars(statement).all()


def count(session: Session) -> int:
    return session.scalar(select(func.count()).select_from(Staff)) or 0


def classes_of(session: Session, staff_ids: Collection[str]) -> dict[str, list[str]]:
    """Class ids of each of these, in order; one statement."""
    classes: dict[str, list[str]] = {staff_id: [] for staff_id in staff_ids}
    statement = select(StaffClass.staff_id, StaffClass.class_id).where(StaffClass.staff_id.in_(staff_ids))
    for staff_id, class_id in session.execute(statement.order_by(StaffClass.class_id)):
        classes[staff_id].append(class_id)
    return classes


def add(session: Session, staff: Staff) -> None:
    session.add(staff)


def assign(session: Session, staff: Staff, class_ids: Sequence[str]) -> None:
    """These classes and no others."""
    session.execute(delete(StaffClass).where(StaffClass.staff_id == staff.id))
    if class_ids:
        same = {"tenant_id": staff.tenant_id, "staff_id": staff.id, "user_id": staff.user_id}
        session.execute(insert(StaffClass), [{**same, "class_id": class_id} for class_id in class_ids])


def remove(session: Session, staff_id: str) -> None:
    session.execute(delete(StaffClass).where(StaffClass.staff_id == staff_id))
    session.execute(delete(Staff).where(Staff.id == staff_id))
