"""The tenant service's manifest."""

from __future__ import annotations

from yuanlian.contracts.tenant import SERVICE
from yuanlian.kit.caching.cache import Cache
from yuanlian.kit.clock import Clock
from yuanlian.kit.database.database import Database
from yuanlian.kit.http.app import service_app
from yuanlian.kit.http.client import ServiceClient
from yuanlian.kit.identity.decision import Authorizer
from yuanlian.kit.identity.internal import InternalIdentity
from yuanlian.kit.module import ServiceModule
from yuanlian.kit.realtime.hub import Realtime
from yuanlian.services.tenant.access import Access
from yuanlian.services.tenant.attendance import routes as attendance
from yuanlian.services.tenant.attendance.handlers import subscriptions
from yuanlian.services.tenant.attendance.service import AttendanceService
from yuanlian.services.tenant.audience import routes as audience
from yuanlian.services.tenant.audience.service import AudienceService
from yuanlian.services.tenant.imports import routes as imports
from yuanlian.services.tenant.imports.service import ImportService
from yuanlian.services.tenant.roster import handlers as roster_handlers
from yuanlian.services.tenant.roster import routes as roster
from yuanlian.services.tenant.tenants import routes as tenants
from yuanlian.services.tenant.tenants.directory import DatabaseTenantDirectory
from yuanlian.services.tenant.tenants.service import TenantService
from yuanlian.services.tenant.tenants.zones import TimeZones


def module(
    *,
    database: Database,
    directory: DatabaseTenantDirectory,
    clock: Clock,
    identity: InternalIdentity,
    client: ServiceClient,
    realtime: Realtime,
    cache: Cache,
) -> ServiceModule:
    access = Access(Authorizer(clock))
    zones = TimeZones(database, cache)
    handlers = [
        *tenants.routes(TenantService(database, directory, clock, zones)),
        *tenants.internal_routes(directory),
        *roster.routes(database, access, client, clock, realtime),
        *imports.routes(ImportService(database, access, clock, realtime)),
        *audience.routes(AudienceService(database, access)),
        *attendance.routes(AttendanceService(database, access, realtime, clock, zones)),
    ]
    return ServiceModule(
        name=SERVICE,
        app=service_app(SERVICE, handlers, identity),
        subscriptions=[*subscriptions(realtime), *roster_handlers.subscriptions(database, realtime)],
        checks={"database": database.ping},
    )
