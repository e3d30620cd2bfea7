"""The composition root: which adapter stands behind each port. Only this file knows the shape."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from yuanlian import __version__
from yuanlian.gateway.admin import Admin
from yuanlian.gateway.observer import Observer
from yuanlian.gateway.openapi import merge
from yuanlian.gateway.origin import TrustedProxies
from yuanlian.gateway.pages import Pages
from yuanlian.gateway.pipeline import Gateway
from yuanlian.gateway.routes import DEFAULT_ROUTES
from yuanlian.gateway.service_client import InProcessClient
from yuanlian.gateway.upstreams.asgi import AsgiUpstream
from yuanlian.gateway.websocket import WebSocketEndpoint
from yuanlian.kit.clock import Clock, SystemClock
from yuanlian.kit.database.sqlite import SqliteDatabase
from yuanlian.kit.identity.internal import InternalIdentity
from yuanlian.kit.identity.memory import MemoryRevocations
from yuanlian.kit.identity.tokens import AccessTokenVerifier, key_id
from yuanlian.kit.messaging.local import LocalBus
from yuanlian.kit.messaging.relay import Relay
from yuanlian.kit.module import ServiceModule
from yuanlian.kit.observe.edge import EdgeObserver
from yuanlian.kit.observe.health import HealthChecker
from yuanlian.kit.observe.logs import Log
from yuanlian.kit.observe.metrics import Metrics
from yuanlian.kit.realtime.memory import MemoryHub
from yuanlian.kit.registry.memory import MemoryRegistry
from yuanlian.kit.registry.registry import Instance
from yuanlian.kit.resilience.memory import MemoryRateLimiter
from yuanlian.runtime.routing import RoutesSource
from yuanlian.runtime.settings import Settings
from yuanlian.services.analytics.module import module as analytics_module
from yuanlian.services.auth.module import module as auth_module
from yuanlian.services.auth.tokens import TokenIssuer
from yuanlian.services.notification.eml import EmlMailer
from yuanlian.services.notification.mailer import Mailer
from yuanlian.services.notification.module import module as notification_module
from yuanlian.services.tenant.module import module as tenant_module
from yuanlian.services.tenant.tenants.directory import DatabaseTenantDirectory


class UnsupportedSettingError(Exception):
    """A setting asks for an adapter that this release does not have."""


@dataclass(frozen=True)
class Embedded:
    """The whole platform in one process. The launcher starts and stops its parts in order."""

    settings: Settings
    database: SqliteDatabase
    modules: tuple[ServiceModule, ...]
    bus: LocalBus
    relay: Relay
    clock: Clock
    routes: RoutesSource
    registry: MemoryRegistry
    health: HealthChecker
    gateway: Gateway
    admin: Admin
    websocket: WebSocketEndpoint
    observer: Observer

    async def register(self) -> None:
        for module in self.modules:
            await self.registry.register(Instance(module.name, "embedded", "", 0, __version__))

    async def heartbeat(self) -> None:
        for module in self.modules:
            await self.registry.heartbeat(module.name, "embedded")


def embedded(settings: Settings, log: Log) -> Embedded:
    """Builds the platform; nothing is started and nothing listens yet.

    Raises:
        UnsupportedSettingError, ValueError, RoutesRefusedError: a setting that cannot be followed.
    """
    refuse_unsupported(settings)
    clock = SystemClock()
    secret = settings.token_secret()
    kid = key_id(secret)
    database = SqliteDatabase(settings.database_path)
    identity = InternalIdentity(settings.internal_secret(), clock)
    verifier = AccessTokenVerifier({kid: secret}, clock)
    revocations = MemoryRevocations(clock)
    directory = DatabaseTenantDirectory(database, clock)
    hub = MemoryHub()
    metrics = Metrics()
    observer = EdgeObserver(log, metrics)
    client = InProcessClient({}, identity)
    issuer = TokenIssuer({kid: secret}, kid)

    modules = _modules(
        _Shared(database, clock, identity, client, hub, directory), issuer, revocations, _mailer(settings)
    )
    for module in modules:
        client.add(module.name, module.app)

    bus = LocalBus(database, clock)
    health = HealthChecker(clock)
    for module in modules:
        for subscription in module.subscriptions:
            bus.subscribe(subscription)
        for name, check in module.checks.items():
            health.add(f"{module.name}.{name}", check)

    websocket = WebSocketEndpoint(hub, verifier, revocations, directory, client, observer, clock=clock)
    routes = RoutesSource(settings.routes or DEFAULT_ROUTES)
    gateway = Gateway(
        routes.read(),
        {module.name: AsgiUpstream(module.app) for module in modules},
        verifier=verifier,
        revocations=revocations,
        identity=identity,
        directory=directory,
        limiter=MemoryRateLimiter(clock),
        clock=clock,
        pages=Pages(lambda: _openapi(modules), health.ready),
        websocket=websocket,
        trusted_proxies=TrustedProxies(settings.trusted_proxies),
    )
    registry = MemoryRegistry(clock)

    admin = Admin(
        metrics=metrics.render, health=health.report, table=lambda: gateway.table, registry=registry
    )
    return Embedded(
        settings=settings,
        database=database,
        modules=modules,
        bus=bus,
        relay=Relay(database, bus, clock),
        clock=clock,
        routes=routes,
        registry=registry,
        health=health,
        gateway=gateway,
        admin=admin,
        websocket=websocket,
        observer=observer,
    )


@dataclass(frozen=True, slots=True)
class _Shared:
    """What the modules have in common."""

    database: SqliteDatabase
    clock: SystemClock
    identity: InternalIdentity
    client: InProcessClient
    realtime: MemoryHub
    directory: DatabaseTenantDirectory


def _modules(
    shared: _Shared, issuer: TokenIssuer, revocations: MemoryRevocations, mailer: Mailer
) -> tuple[ServiceModule, ...]:
    return (
        auth_module(
            database=shared.database,
            issuer=issuer,
            revocations=revocations,
            directory=shared.directory,
            clock=shared.clock,
            identity=shared.identity,
        ),
        tenant_module(
            database=shared.database,
            directory=shared.directory,
            clock=shared.clock,
            identity=shared.identity,
            client=shared.client,
            realtime=shared.realtime,
        ),
        notification_module(
            database=shared.database,
            clock=shared.clock,
            identity=shared.identity,
            client=shared.client,
            realtime=shared.realtime,
            mailer=mailer,
        ),
        analytics_module(
            database=shared.database, clock=shared.clock, identity=shared.identity, client=shared.client
        ),
    )


def _mailer(settings: Settings) -> Mailer:
    if settings.smtp_url is not None:
        from yuanlian.services.notification.smtp import SmtpMailer  # its library only where mail is sent

        return SmtpMailer(settings.smtp_url.get_secret_value())
    return EmlMailer(settings.data_dir / "mail")


def _openapi(modules: tuple[ServiceModule, ...]) -> dict[str, Any]:
    documents = {m.name: m.app.litestar.openapi_schema.to_schema() for m in modules}
    return merge(documents, "园联 Yuanlian", __version__)


def refuse_unsupported(settings: Settings) -> None:
    """Raises:
    UnsupportedSettingError: a setting asks for an adapter that this release does not have.
    """
    known = {"bus_url": "local://", "cache_url": "memory://", "registry_url": "memory://"}
    for name, supported in known.items():
        value = getattr(settings, name)
        if value != supported:
            # Only its scheme: the rest of a URL may be a password.
            scheme = value.partition(":")[0]
            raise UnsupportedSettingError(f"{name}: the embedded platform speaks {supported}, not {scheme}:…")
