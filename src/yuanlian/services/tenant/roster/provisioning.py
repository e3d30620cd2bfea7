"""A whole roster in a few statements, for data that is right by construction (demo, benchmarks)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy.orm import Session

from yuanlian.services.tenant.roster.models import (
    Classroom,
    Guardian,
    Guardianship,
    Staff,
    StaffClass,
    Student,
)
from yuanlian.services.tenant.roster.repository import Row, insert_many


def provision(
    session: Session,
    *,
    classes: Sequence[Row] = (),
    students: Sequence[Row] = (),
    guardians: Sequence[Row] = (),
    guardianships: Sequence[Row] = (),
    staff: Sequence[Row] = (),
    staff_classes: Sequence[Row] = (),
) -> None:
    """One multi-row statement per table, in the caller's scope and transaction; nothing is checked
    but the tenant. Rows are values by column name, ``tenant_id`` included; every column without a
    default must be there, and the rows of one table have the same keys."""
    tables: tuple[tuple[type[Any], Sequence[Row]], ...] = (
        (Classroom, classes),
        (Student, students),
        (Guardian, guardians),
        (Guardianship, guardianships),
        (Staff, staff),
        (StaffClass, staff_classes),
    )
    for table, rows in tables:
        insert_many(session, table, rows)
