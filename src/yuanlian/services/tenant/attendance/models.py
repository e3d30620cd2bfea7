"""What happened (events, never changed) and what it means for a child's day (one row, folded)."""

from __future__ import annotations

from datetime import date

from sqlalchemy import Date, Index, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from yuanlian.kit.database.schema import Base, TenantOwned


class AttendanceEvent(TenantOwned, Base):
    """``event_id`` is the client's; together with the tenant it makes a repeat recognisable."""

    __tablename__ = "attendance_events"
    __table_args__ = (
        UniqueConstraint("event_id", "tenant_id"),
        Index(None, "tenant_id", "student_id", "occurred_at"),
        Index(None, "tenant_id", "date"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    event_id: Mapped[str]
    student_id: Mapped[str]
    class_id: Mapped[str]
    type: Mapped[str] = mapped_column(String(16))
    date: Mapped[date] = mapped_column(Date)
    occurred_at: Mapped[int]
    received_at: Mapped[int]
    method: Mapped[str | None] = mapped_column(String(8))
    temperature: Mapped[float | None]
    by_name: Mapped[str | None] = mapped_column(String(50))
    by_relation: Mapped[str | None] = mapped_column(String(20))
    note: Mapped[str | None] = mapped_column(String(500))
    recorded_by: Mapped[str]
    day_state: Mapped[str] = mapped_column(String(16))


class AttendanceDay(TenantOwned, Base):
    """A child's day. No row means ``unchecked``, which is not ``absent``.

    ``state`` was set by the event that occurred last (``state_at``); ``version`` counts the events.
    """

    __tablename__ = "attendance_days"
    __table_args__ = (
        Index(None, "student_id", "date", "tenant_id"),
        Index(None, "tenant_id", "date", "class_id"),
    )

    date: Mapped[date] = mapped_column(Date, primary_key=True)
    student_id: Mapped[str] = mapped_column(primary_key=True)
    class_id: Mapped[str]
    state: Mapped[str] = mapped_column(String(16))
    state_at: Mapped[int]
    first_in_at: Mapped[int | None]
    last_out_at: Mapped[int | None]
    temperature: Mapped[float | None]
    temperature_at: Mapped[int | None]
    version: Mapped[int]
