"""What day it is where the kindergarten is."""

from __future__ import annotations

from datetime import date
from zoneinfo import ZoneInfo

from sqlalchemy.orm import Session

from yuanlian.kit.clock import local_date
from yuanlian.kit.tenancy.directory import DEFAULT_ZONE
from yuanlian.kit.tenancy.scope import current_tenant
from yuanlian.services.tenant.tenants import repository


def today(session: Session, now_ms: int) -> date:
    """The current tenant's calendar day at that instant."""
    row = repository.get(session, current_tenant())
    return local_date(now_ms, ZoneInfo(row.time_zone if row is not None else DEFAULT_ZONE))
