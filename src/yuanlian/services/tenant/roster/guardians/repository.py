"""SQL of guardians and of whom they answer for."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from yuanlian.kit.tenancy.scope import current_tenant
from yuanlian.services.tenant.roster.models import Guardian, Guardianship
from yuanlian.services.tenant.roster.students.repository import remove_childless


def of_student(session: Session, student_id: str) -> Sequence[tuple[Guardian, Guardianship]]:
    """The child's guardians, longest known first."""
    statement = (
        select(Guardian, Guardianship)
        .join(Guardianship, Guardianship.guardian_id == Guardian.id)
        .where(Guardianship.student_id == student_id)
        .order_by(Guardianship.created_at, Guardian.id)
    )
    return [(guardian, guardianship) for guardian, guardianship in session.execute(statement)]


def find(session: Session, student_id: str, guardian_id: str) -> tuple[Guardian, Guardianship] | None:
    guardianship = session.get(Guardianship, (current_tenant(), student_id, guardian_id))
    guardian = session.get(Guardian, (current_tenant(), guardian_id))
    if guardian is None or guardianship is None:
        return None
    return guardian, guardianship


def count(session: Session, student_id: str) -> int:
    statement = select(func.count()).select_from(Guardianship)
    return session.scalar(statement.where(Guardianship.student_id == student_id)) or 0


def by_user(session: Session, user_id: str) -> Guardian | None:
    return session.scalar(select(Guardian).where(Guardian.user_id == user_id).limit(1))


def by_phone(session: Session, phone: str) -> Guardian | None:
    return session.scalar(select(Guardian).where(Guardian.phone == phone))


def add(session: Session, row: Guardian | Guardianship) -> None:
    session.add(row)


def remove(session: Session, student_id: str, guardian_id: str) -> None:
    """The relation, and the person when no child is left."""
    session.execute(
        delete(Guardianship).where(
            Guardianship.student_id == student_id, Guardianship.guardian_id == guardian_id
        )
    )
    remove_childless(session, [guardian_id])
