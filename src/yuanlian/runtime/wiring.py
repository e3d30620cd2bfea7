"""The composition root: which adapter stands behind each port. Only this file knows the shape."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from yuanlian import __version__
from yuanlian.gateway.admin import Admin
from yuanlian.gateway.internal import EVERY_NETWORK, QUIET, InternalEdge
from yuanlian.gateway.observer import Observer
from yuanlian.gateway.openapi import merge
from yuanlian.gateway.origin import TrustedProxies
from yuanlian.gateway.pages import Pages
from yuanlian.gateway.pipeline import Gateway
from yuanlian.gateway.routes import RouteTable
from yuanlian.gateway.service_client import InProcessClient
from yuanlian.gateway.upstreams.asgi import AsgiUpstream
from yuanlian.gateway.websocket import WebSocketEndpoint
from yuanlian.kit.caching.cache import Cache
from yuanlian.kit.clock import SystemClock
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
from yuanlian.kit.resilience.memory import MemoryRateLimiter
from yuanlian.runtime import listening, messaging_metrics, routing
from yuanlian.runtime.housekeeping import keep_tidy
from yuanlian.runtime.listening import Listening, open_tls
from yuanlian.runtime.platform import Platform, by_prefix, mailer
from yuanlian.runtime.registration import Registration
from yuanlian.runtime.settings import Settings, UnsupportedSettingError, shown
from yuanlian.runtime.stopping import Chore, one_after_another
from yuanlian.services.analytics.module import module as analytics_module
from yuanlian.services.auth.module import module as auth_module
from yuanlian.services.auth.tokens import TokenIssuer
from yuanlian.services.notification.mailer import Mailer
from yuanlian.services.notification.module import module as notification_module
from yuanlian.services.tenant.module import module as tenant_module
from yuanlian.services.tenant.tenants.directory import DatabaseTenantDirectory


def embedded(settings: Settings, log: Log) -> Platform:
    """The whole platform in one process; nothing is started and nothing listens yet.

    Raises:
        UnsupportedSettingError, ValueError, RoutesRefusedError: a setting that cannot be followed.
    """
    proxies = TrustedProxies(settings.trusted_proxies)
    core = _core(settings, log, proxies)
    routes = routing.routes_of(settings)
    gateway = Gateway(
        routes.read(),
        {module.name: AsgiUpstream(module.app) for module in core.modules},
        verifier=core.verifier,
        revocations=core.revocations,
        identity=core.identity,
        directory=core.directory,
        limiter=MemoryRateLimiter(core.clock),
        clock=core.clock,
        pages=Pages(core.describe, core.health.ready),
        websocket=core.websocket,
        trusted_proxies=proxies,
        bad_tokens_per_minute=settings.bad_tokens_per_minute,
    )
    tls = open_tls(settings, core.clock, core.health, core.metrics)
    chores: list[Chore] = []
    reloads: list[Chore] = [partial(routing.reload, routes, gateway)]
    if settings.routes is not None:
        chores.append(partial(routing.follow, routes, gateway))
    if tls is not None:
        chores.append(tls.follow)
        reloads.append(tls.reload)
    return core.platform(
        public=listening.public(settings, gateway, gateway.is_trusted_proxy, tls),
        admin=listening.admin(settings, core.admin(lambda: gateway.table)),
        chores=chores,
        reload=partial(one_after_another, reloads),
    )


def services(settings: Settings, log: Log) -> Platform:
    """All services and ``/ws`` in one process, for gateways in others.

    Raises:
        UnsupportedSettingError, ValueError: a setting that cannot be followed.
    """
    core = _core(settings, log, TrustedProxies(EVERY_NETWORK), QUIET)
    edge = InternalEdge(
        by_prefix(core.modules),
        core.identity,
        describe=core.describe,
        ready=core.health.ready,
        websocket=core.websocket,
    )
    table = RouteTable([])
    return core.platform(
        public=listening.services(settings, edge),
        admin=listening.services_admin(settings, core.admin(lambda: table)),
        chores=[],
        reload=partial(one_after_another, ()),
    )


@dataclass(frozen=True, slots=True)
class _Core:
    """What the services need, whatever stands in front of them."""

    database: SqliteDatabase
    clock: SystemClock
    identity: InternalIdentity
    verifier: AccessTokenVerifier
    revocations: MemoryRevocations
    directory: DatabaseTenantDirectory
    modules: tuple[ServiceModule, ...]
    bus: LocalBus
    relay: Relay
    websocket: WebSocketEndpoint
    health: HealthChecker
    metrics: Metrics
    observer: Observer
    registry: MemoryRegistry

    async def describe(self) -> dict[str, Any]:
        return await asyncio.to_thread(_openapi, self.modules)

    def admin(self, table: Callable[[], RouteTable]) -> Admin:
        return Admin(
            metrics=self._show_metrics, health=self.health.report, table=table, registry=self.registry
        )

    def platform(
        self, *, public: Listening, admin: Listening, chores: Sequence[Chore], reload: Chore
    ) -> Platform:
        return Platform(
            database=self.database,
            modules=self.modules,
            bus=self.bus,
            relay=self.relay,
            registration=Registration(self.registry, [module.name for module in self.modules], ""),
            websocket=self.websocket,
            observer=self.observer,
            public=public,
            admin=admin,
            chores=(partial(keep_tidy, self.database, self.clock), *chores),
            reload=reload,
            connections=contextlib.nullcontext(),
        )

    async def _show_metrics(self) -> bytes:
        return self.metrics.render()


def _core(settings: Settings, log: Log, proxies: TrustedProxies, quiet: tuple[str, ...] = ()) -> _Core:
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
    observer = EdgeObserver(log, metrics, quiet)
    client = InProcessClient({}, identity)
    issuer = TokenIssuer({kid: secret}, kid)
    modules = _modules(
        _Shared(database, clock, identity, client, hub, directory), issuer, revocations, mailer(settings)
    )
    bus = LocalBus(database, clock)
    relay = Relay(database, bus, clock)
    messaging_metrics.watch(metrics, bus, relay)
    health = HealthChecker(clock)
    for module in modules:
        client.add(module.name, module.app)
        for subscription in module.subscriptions:
            bus.subscribe(subscription)
        for name, check in module.checks.items():
            health.add(f"{module.name}.{name}", check)
    return _Core(
        database=database,
        clock=clock,
        identity=identity,
        verifier=verifier,
        revocations=revocations,
        directory=directory,
        modules=modules,
        bus=bus,
        relay=relay,
        websocket=WebSocketEndpoint(
            hub,
            verifier,
            revocations,
            directory,
            client,
            observer,
            clock=clock,
            trusted_proxies=proxies,
            bad_tokens_per_minute=settings.bad_tokens_per_minute,
        ),
        health=health,
        metrics=metrics,
        observer=observer,
        registry=MemoryRegistry(clock),
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
            cache=Cache(),
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
            raise UnsupportedSettingError(
                f"{name}: the embedded platform speaks {supported}, not {shown(value)}"
            )
