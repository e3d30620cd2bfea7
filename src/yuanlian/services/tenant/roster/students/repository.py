"""SQL of children."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import ColumnElement, delete, func, select
from sqlalchemy.orm import Session

from yuanlian.kit.tenancy.scope import current_tenant
from yuanlian.services.tenant.attendance.models import AttendanceDay, AttendanceEvent
from yuanlian.services.tenant.roster.models import Guardian, Guardianship, Student
from yuanlian.services.tenant.roster.students.schemas import StudentFilter


def get(session: Session, student_id: str) -> Student | None:
    return session.get(Student, (current_tenant(), student_id))


def page(
    session: Session,
    filter_: StudentFilter,
    candidates: ColumnElement[bool] | None,
    after: str | None,
    limit: int,
) -> Sequence[Student]:
    """Up to ``limit`` children in order of id, after that id."""
    statement = select(Student).where(*_criteria(filter_)).order_by(Student.id).limit(limit)
    if candidates is not None:
        statement = statement.where(candidates)
    if after is not None:
        statement = statement.where(Student.id > after)
    return session.scalars(statement).all()


def count(session: Session, filter_: StudentFilter) -> int:
    statement = select(func.count()).select_from(Student).where(*_criteria(filter_))
    return session.scalar(statement) or 0


def _criteria(filter_: StudentFilter) -> list[ColumnElement[bool]]:
    criteria: list[ColumnElement[bool]] = []
    if filter_.class_id is not None:
        criteria.append(Student.class_id == filter_.class_id)
    if filter_.status is not None:
        criteria.append(Student.status == filter_.status)
    if filter_.q:
        criteria.append(Student.name.icontains(filter_.q, autoescape=True))
    return criteria


def add(session: Session, student: Student) -> None:
    session.add(student)


def has_attendance(session: Session, student_id: str) -> bool:
    event = select(AttendanceEvent.id).where(AttendanceEvent.student_id == student_id).limit(1)
    day = select(AttendanceDay.date).where(AttendanceDay.student_id == student_id).limit(1)
    return session.scalar(event) is not None or session.scalar(day) is not None


def guardian_users(session: Session, student_id: str) -> list[str]:
    """User ids of the child's guardians who can sign in."""
    statement = (
        select(Guardian.user_id)
        .join(Guardianship, Guardianship.guardian_id == Guardian.id)
        .where(Guardianship.student_id == student_id, Guardian.user_id.is_not(None))
    )
    return [user for user in session.scalars(statement) if user is not None]


def remove(session: Session, student_id: str) -> None:
    """With its guardianships, and the guardians who have no other child here."""
    guardians = list(
        session.scalars(select(Guardianship.guardian_id).where(Guardianship.student_id == student_id))
    )
    session.execute(delete(Guardianship).where(Guardianship.student_id == student_id))
    remove_childless(session, guardians)
    session.execute(delete(Student).where(Student.id == student_id))


def remove_childless(session: Session, guardian_ids: Sequence[str]) -> None:
    """Those of these guardians who answer for nobody here any more."""
    still = select(Guardianship.guardian_id).where(Guardianship.guardian_id.in_(guardian_ids))
    session.execute(delete(Guardian).where(Guardian.id.in_(guardian_ids), Guardian.id.not_in(still)))
