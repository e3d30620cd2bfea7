"""Classes, children, their guardians, and the staff who look after them."""

from __future__ import annotations

from datetime import date

from sqlalchemy import Date, Index, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from yuanlian.kit.database.schema import Base, TenantOwned


class Classroom(TenantOwned, Base):
    """A name is a class's only one, also when two people give it at the same time."""

    __tablename__ = "classes"
    # An index, not a constraint: SQLite adds it without copying the table.
    __table_args__ = (Index("uq_classes_tenant_id_name", "tenant_id", "name", unique=True),)

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50))
    grade: Mapped[str | None] = mapped_column(String(20))
    created_at: Mapped[int]


class Student(TenantOwned, Base):
    """``status``: active, graduated or withdrawn; only active children are expected on the board."""

    __tablename__ = "students"
    __table_args__ = (
        # Check-ins of several tenants are looked up by id in one statement (group commit).
        UniqueConstraint("id"),
        Index(None, "tenant_id", "class_id", "status"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50))
    gender: Mapped[str | None] = mapped_column(String(8))
    birth_date: Mapped[date | None] = mapped_column(Date)
    class_id: Mapped[str]
    status: Mapped[str] = mapped_column(String(16), default="active")
    created_at: Mapped[int]
    updated_at: Mapped[int]


class Guardian(TenantOwned, Base):
    """A person who answers for children here; ``user_id`` once that person can sign in."""

    __tablename__ = "guardians"
    __table_args__ = (UniqueConstraint("tenant_id", "phone"), Index(None, "user_id", "tenant_id"))

    id: Mapped[str] = mapped_column(primary_key=True)
    user_id: Mapped[str | None]
    name: Mapped[str] = mapped_column(String(50))
    phone: Mapped[str | None] = mapped_column(String(20))
    email: Mapped[str | None] = mapped_column(String(254))
    created_at: Mapped[int]


class Guardianship(TenantOwned, Base):
    """Who answers for which child. No row, no message and no view of that child."""

    __tablename__ = "student_guardians"
    __table_args__ = (Index(None, "student_id", "tenant_id"), Index(None, "guardian_id", "tenant_id"))

    student_id: Mapped[str] = mapped_column(primary_key=True)
    guardian_id: Mapped[str] = mapped_column(primary_key=True)
    relation: Mapped[str] = mapped_column(String(20))
    can_pick_up: Mapped[bool] = mapped_column(default=True)
    receives_notices: Mapped[bool] = mapped_column(default=True)
    created_at: Mapped[int]


class Staff(TenantOwned, Base):
    __tablename__ = "staff"
    __table_args__ = (UniqueConstraint("tenant_id", "user_id"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    user_id: Mapped[str]
    name: Mapped[str] = mapped_column(String(50))
    created_at: Mapped[int]


class StaffClass(TenantOwned, Base):
    """Which classes a member of staff looks after: ``user.classIds`` of permission conditions."""

    __tablename__ = "staff_classes"
    __table_args__ = (Index(None, "user_id", "tenant_id"),)

    staff_id: Mapped[str] = mapped_column(primary_key=True)
    class_id: Mapped[str] = mapped_column(primary_key=True)
    user_id: Mapped[str]
