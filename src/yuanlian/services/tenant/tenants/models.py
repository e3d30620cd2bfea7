"""The kindergartens themselves. Installation-wide: a tenant does not own its own row."""

from __future__ import annotations

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from yuanlian.kit.database.schema import Base
from yuanlian.kit.tenancy.directory import DEFAULT_ZONE


class TenantRow(Base):
    __tablename__ = "tenants"

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(100))
    domain: Mapped[str | None] = mapped_column(String(253), unique=True)
    status: Mapped[str] = mapped_column(String(16), default="active")
    isolation: Mapped[str] = mapped_column(String(16), default="shared")
    time_zone: Mapped[str] = mapped_column(String(64), default=DEFAULT_ZONE)
    late_after: Mapped[str] = mapped_column(String(5), default="09:00")
    """Local time; a first check-in after it counts as late."""
    created_at: Mapped[int]
