"""Opening, changing and suspending kindergartens: work of the platform's operators."""

from __future__ import annotations

from collections.abc import Collection
from functools import cache
from typing import Protocol
from zoneinfo import available_timezones

from msgspec import UNSET
from sqlalchemy.orm import Session

from yuanlian.contracts.tenant import PLATFORM
from yuanlian.kit.clock import Clock
from yuanlian.kit.database.database import Database, reads, writes
from yuanlian.kit.envelope import Page
from yuanlian.kit.errors import AuthorizationError, NotFoundError
from yuanlian.kit.http.pagination import decode_cursor, encode_cursor
from yuanlian.kit.identity.principal import Principal
from yuanlian.kit.ids import new_id
from yuanlian.kit.tenancy.directory import Tenant
from yuanlian.services.tenant.fields import Fields
from yuanlian.services.tenant.tenants import repository
from yuanlian.services.tenant.tenants.directory import to_tenant
from yuanlian.services.tenant.tenants.models import TenantRow
from yuanlian.services.tenant.tenants.schemas import NewTenant, OwnTenant, TenantChange, TenantView
from yuanlian.services.tenant.tenants.zones import TimeZones
from yuanlian.services.tenant.wording import NO_TENANT


class HearsOfChanges(Protocol):
    """The tenant directory, as far as this service is concerned."""

    def changed(self, tenant: Tenant) -> None: ...


class TenantService:
    """``isolations``: the placements this installation can give a tenant (DESIGN §8)."""

    def __init__(
        self,
        database: Database,
        directory: HearsOfChanges,
        clock: Clock,
        zones: TimeZones,
        isolations: Collection[str] = ("shared",),
    ) -> None:
        self.database = database
        self._directory = directory
        self._clock = clock
        self._zones = zones
        self._isolations = isolations

    @reads
    def list_(
        self, session: Session, principal: Principal, cursor: str | None, limit: int
    ) -> Page[TenantView]:
        _require_operator(principal, "tenant.read")
        key = decode_cursor(cursor, str, of="tenants")
        rows = repository.page(session, str(key[0]) if key else None, limit + 1)
        following = encode_cursor(rows[limit - 1].id, of="tenants") if len(rows) > limit else None
        return Page([_view(row) for row in rows[:limit]], following, repository.count(session))

    @reads
    def get(self, session: Session, principal: Principal, tenant_id: str) -> TenantView:
        _require_operator(principal, "tenant.read")
        return _view(_found(session, tenant_id))

    @reads
    def own(self, session: Session, principal: Principal) -> OwnTenant:
        row = _found(session, principal.tenant_id)
        return OwnTenant(row.id, row.name, row.domain, row.status, row.time_zone, row.late_after)

    async def create(self, principal: Principal, body: NewTenant) -> TenantView:
        row = await self._create(principal, body)
        await self._tell(row)
        return _view(row)

    async def change(self, principal: Principal, tenant_id: str, body: TenantChange) -> TenantView:
        row = await self._change(principal, tenant_id, body)
        await self._tell(row)
        return _view(row)

    async def _tell(self, row: TenantRow) -> None:
        self._directory.changed(to_tenant(row))
        await self._zones.changed(row.id)

    @writes
    def _create(self, session: Session, principal: Principal, body: NewTenant) -> TenantRow:
        _require_operator(principal, "tenant.write")
        row = TenantRow(id=new_id("tenant"), created_at=self._clock.now_ms())
        _fill(row, body, self._isolations)
        repository.save(session, row)
        return row

    @writes
    def _change(
        self, session: Session, principal: Principal, tenant_id: str, body: TenantChange
    ) -> TenantRow:
        _require_operator(principal, "tenant.write")
        row = _found(session, tenant_id)
        _fill(row, body, self._isolations)
        repository.save(session, row)
        return row


def _require_operator(principal: Principal, permission: str) -> None:
    """Only members of the platform's own tenant: a principal who may define roles must not be able
    to write themselves a role that opens other kindergartens. No condition is foreseen."""
    if principal.tenant_id != PLATFORM or not principal.holds_unconditionally(permission):
        raise AuthorizationError


def _found(session: Session, tenant_id: str) -> TenantRow:
    row = repository.get(session, tenant_id)
    if row is None:
        raise NotFoundError(NO_TENANT)
    return row


def _fill(row: TenantRow, body: NewTenant | TenantChange, isolations: Collection[str]) -> None:
    """Takes over what the body says, or raises with everything that is wrong."""
    fields = Fields()
    if body.name is not UNSET:
        row.name = fields.text("name", body.name, 100)
    if body.domain is not UNSET:
        row.domain = fields.host("domain", body.domain) if body.domain is not None else None
    if body.status is not UNSET:
        row.status = body.status
        if row.id == PLATFORM and body.status != "active":
            fields.refuse("status", "平台租户不能停用", "the platform itself cannot be suspended")
    if body.isolation is not UNSET:
        row.isolation = body.isolation
        if body.isolation not in isolations:
            fields.refuse("isolation", "本平台没有这种隔离方式", "is not available on this installation")
    if body.timeZone is not UNSET:
        row.time_zone = body.timeZone
        if body.timeZone not in _time_zones():
            fields.refuse("timeZone", "不是 IANA 时区名", "is not an IANA time zone")
    if body.lateAfter is not UNSET:
        row.late_after = body.lateAfter
    fields.done()


@cache
def _time_zones() -> frozenset[str]:
    """Places, and UTC: names such as ``localtime`` or ``Factory`` mean another time on another machine,
    or none."""
    return frozenset(name for name in available_timezones() if "/" in name or name == "UTC")


def _view(row: TenantRow) -> TenantView:
    return TenantView(
        id=row.id,
        name=row.name,
        domain=row.domain,
        status=row.status,
        isolation=row.isolation,
        timeZone=row.time_zone,
        lateAfter=row.late_after,
        createdAt=row.created_at,
    )
