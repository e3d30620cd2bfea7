"""Whole rosters at once; each noun's own SQL is in its sub-package."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import delete, insert, select, update
from sqlalchemy.orm import Session

from yuanlian.services.tenant.roster.models import Guardian, Staff, StaffClass

Row = dict[str, Any]


def insert_many(session: Session, model: type[Any], rows: Sequence[Row]) -> None:
    """One statement; ``rows`` have the same keys, ``tenant_id`` among them."""
    if rows:
        session.execute(insert(model), list(rows))


def remove_staff(session: Session, tenant_id: str, user_id: str, until: int) -> None:
    """The user's staff record made until then (epoch ms), and its classes. Names the tenant, as the
    scope may be a group of them."""
    leaving = select(Staff.id).where(
        Staff.tenant_id == tenant_id, Staff.user_id == user_id, Staff.created_at <= until
    )
    ids = list(session.scalars(leaving))
    session.execute(delete(StaffClass).where(StaffClass.tenant_id == tenant_id, StaffClass.staff_id.in_(ids)))
    session.execute(delete(Staff).where(Staff.tenant_id == tenant_id, Staff.id.in_(ids)))


def unlink_guardian(session: Session, tenant_id: str, user_id: str) -> None:
    """The person stays a guardian, without an account."""
    session.execute(
        update(Guardian)
        .where(Guardian.tenant_id == tenant_id, Guardian.user_id == user_id)
        .values(user_id=None)
    )
