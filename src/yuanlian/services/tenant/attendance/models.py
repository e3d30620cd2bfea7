"""What happened (events, never changed) and what it means for a child's day (one row, folded)."""

from __future__ import annotations

from datetime import date

from sqlalchemy import Date, Index, PrimaryKeyConstraint, String
from sqlalchemy.orm import Mapped, mapped_column

from yuanlian.kit.database.schema import Base, TenantOwned


class AttendanceEvent(TenantOwned, Base):
    """``event_id`` is the client's; together with the tenant it makes a repeat recognisable.

    A row has few places to be written to, because a group commit pays for every page it touches, in
    SQLite as in InnoDB (both keep the rows in the order of the primary key):
    the rows themselves in the order of their event ids (ours grow with time), and the two histories.
    """

    __tablename__ = "attendance_events"
    __table_args__ = (
        PrimaryKeyConstraint("event_id", "tenant_id"),
        Index(None, "tenant_id", "student_id", "occurred_at"),
        Index(None, "tenant_id", "occurred_at"),
        {"sqlite_with_rowid": False},
    )

    id: Mapped[str]
    event_id: Mapped[str] = mapped_column(primary_key=True)
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
        # The tenant comes last: days of several tenants are looked up by their children (group commit).
        PrimaryKeyConstraint("student_id", "date", "tenant_id"),
        Index(None, "tenant_id", "date"),
        {"sqlite_with_rowid": False},
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
