"""SQL of the tenants table, which is installation-wide: no scope is needed, none applies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from sqlalchemy import func, insert, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from yuanlian.kit.errors import ConflictError
from yuanlian.kit.i18n import Text
from yuanlian.kit.tenancy.directory import Isolation, Tenant, TenantStatus
from yuanlian.services.tenant.tenants.models import TenantRow

DOMAIN_TAKEN = Text("域名已被其他幼儿园使用", "The domain belongs to another kindergarten")


def get(session: Session, tenant_id: str) -> TenantRow | None:
    return session.get(TenantRow, tenant_id)


def page(session: Session, after: str | None, limit: int) -> Sequence[TenantRow]:
    """Up to ``limit`` tenants in order of id, after that id."""
    statement = select(TenantRow).order_by(TenantRow.id).limit(limit)
    if after is not None:
        statement = statement.where(TenantRow.id > after)
    return session.scalars(statement).all()


def everyone(session: Session) -> Sequence[TenantRow]:
    """All tenants in order of id, for an operator at the command line."""
    return session.scalars(select(TenantRow).order_by(TenantRow.id)).all()


def directory(session: Session) -> list[Tenant]:
    """What others know about all tenants, in order of id. Read a few times a second: columns, no entities."""
    row = TenantRow
    statement = select(row.id, row.name, row.domain, row.status, row.isolation, row.time_zone)
    return [
        Tenant(id_, name, domain, cast(TenantStatus, status), cast(Isolation, isolation), time_zone)
        for id_, name, domain, status, isolation, time_zone in session.execute(statement.order_by(row.id))
    ]


def count(session: Session) -> int:
    return session.scalar(select(func.count()).select_from(TenantRow)) or 0


def by_domain(session: Session, domain: str) -> TenantRow | None:
    return session.scalar(select(TenantRow).where(TenantRow.domain == domain))


def by_first_label(session: Session, label: str) -> Sequence[TenantRow]:
    """At most two: more than one is ambiguous anyway."""
    prefix = TenantRow.domain.startswith(f"{label}.", autoescape=True)
    return session.scalars(select(TenantRow).where(prefix).order_by(TenantRow.id).limit(2)).all()


def save(session: Session, row: TenantRow) -> None:
    """Raises ``ConflictError`` when the domain belongs to somebody else."""
    session.add(row)
    try:
        session.flush()
    except IntegrityError:
        raise ConflictError(DOMAIN_TAKEN) from None


def insert_many(session: Session, rows: Sequence[dict[str, Any]]) -> None:
    """Rows by column name, in one statement: for demo data, which is right by construction."""
    if rows:
        session.execute(insert(TenantRow), rows)
