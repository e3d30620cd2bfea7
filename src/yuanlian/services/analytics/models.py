"""What every child's day came to, as far as the events that arrived tell."""

from __future__ import annotations

from datetime import date

from sqlalchemy import Date, String
from sqlalchemy.orm import Mapped, mapped_column

from yuanlian.kit.database.schema import Base, TenantOwned


class StudentDayRow(TenantOwned, Base):
    """``attended``: the child came, wherever it is now; ``arrived_late``: after the kindergarten's hour.
    ``version``: that of the event the row is made of; only a newer one replaces it."""

    __tablename__ = "analytics_student_days"
    __table_args__ = ({"sqlite_with_rowid": False},)

    date: Mapped[date] = mapped_column(Date, primary_key=True)
    student_id: Mapped[str] = mapped_column(primary_key=True)
    class_id: Mapped[str]
    class_name: Mapped[str] = mapped_column(String(50))
    state: Mapped[str] = mapped_column(String(16))
    attended: Mapped[bool]
    arrived_late: Mapped[bool]
    version: Mapped[int]
