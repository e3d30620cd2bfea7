"""SQL of classes."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sqlalchemy import ColumnElement, delete, func, select
from sqlalchemy.orm import Session

from yuanlian.kit.tenancy.scope import current_tenant
from yuanlian.services.tenant.roster.models import Classroom, StaffClass, Student


def get(session: Session, class_id: str) -> Classroom | None:
    return session.get(Classroom, (current_tenant(), class_id))


def page(
    session: Session, candidates: ColumnElement[bool] | None, after: str | None, limit: int
) -> Sequence[Classroom]:
    """Up to ``limit`` classes in order of id, after that id."""
    statement = select(Classroom).order_by(Classroom.id).limit(limit)
    if candidates is not None:
        statement = statement.where(candidates)
    if after is not None:
        statement = statement.where(Classroom.id > after)
    return session.scalars(statement).all()


def count(session: Session) -> int:
    return session.scalar(select(func.count()).select_from(Classroom)) or 0


def known(session: Session, class_ids: Collection[str]) -> set[str]:
    """Which of these ids are classes here; in a write they stay so until its end."""
    if not class_ids:
        return set()
    # Asked while a row is being filled in and checked: what is wrong with it must not be sent yet.
    with session.no_autoflush:
        found = select(Classroom.id).where(Classroom.id.in_(class_ids)).with_for_update(read=True)
        return set(session.scalars(found))


def id_of_name(session: Session, name: str) -> str | None:
    return session.scalar(select(Classroom.id).where(Classroom.name == name).limit(1))


def has_active_students(session: Session, class_id: str) -> bool:
    statement = select(Student.id).where(Student.class_id == class_id, Student.status == "active")
    return session.scalar(statement.limit(1)) is not None


def staff_users(session: Session, class_id: str) -> list[str]:
    """User ids of the staff who look after the class."""
    return list(session.scalars(select(StaffClass.user_id).where(StaffClass.class_id == class_id)))


def add(session: Session, classroom: Classroom) -> None:
    session.add(classroom)


def remove(session: Session, class_id: str) -> None:
    """With the assignments of staff to it."""
    session.execute(delete(StaffClass).where(StaffClass.class_id == class_id))
    session.execute(delete(Classroom).where(Classroom.id == class_id))
