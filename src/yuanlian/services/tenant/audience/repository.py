"""SQL of channels and recipients."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from yuanlian.services.tenant.roster.models import Guardian, Guardianship, Staff, StaffClass, Student


def active_children(session: Session, student_ids: Collection[str]) -> list[tuple[str, str]]:
    """(id, class id) of those of these children who are active, in order of id."""
    if not student_ids:
        return []
    statement = select(Student.id, Student.class_id).where(
        Student.id.in_(student_ids), Student.status == "active"
    )
    return [(id_, class_id) for id_, class_id in session.execute(statement.order_by(Student.id))]


def guardians(session: Session, class_id: str | None) -> Sequence[Guardian]:
    """Guardians of active children (of a class, or of all) who want notices; each once."""
    children = select(Guardianship.guardian_id).join(Student, Student.id == Guardianship.student_id)
    children = children.where(Guardianship.receives_notices, Student.status == "active")
    if class_id is not None:
        children = children.where(Student.class_id == class_id)
    return session.scalars(select(Guardian).where(Guardian.id.in_(children)).order_by(Guardian.id)).all()


def staff(session: Session, class_id: str | None) -> Sequence[Staff]:
    """Staff of a class, or all."""
    statement = select(Staff).order_by(Staff.id)
    if class_id is not None:
        looking_after = select(StaffClass.staff_id).where(StaffClass.class_id == class_id)
        statement = statement.where(Staff.id.in_(looking_after))
    return session.scalars(statement).all()
