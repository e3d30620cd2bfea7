"""The composition root of a gateway in a process of its own: which adapter stands behind each port. It
imports no service, and none of what only services need."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any

from yuanlian import __version__
from yuanlian.contracts.auth import SERVICE as AUTH
from yuanlian.contracts.edge import EVERY_SERVICE, REALTIME
from yuanlian.contracts.tenant import SERVICE as TENANT
from yuanlian.gateway import description
from yuanlian.gateway.admin import Admin
from yuanlian.gateway.followed_directory import FollowedTenantDirectory
from yuanlian.gateway.followed_revocations import FollowedRevocations
from yuanlian.gateway.origin import TrustedProxies
from yuanlian.gateway.pages import Pages
from yuanlian.gateway.pipeline import Gateway
from yuanlian.gateway.routes import DEFAULT_ROUTES, RouteTable
from yuanlian.gateway.service_client import UpstreamClient
from yuanlian.gateway.tls import Tls
from yuanlian.gateway.upstreams.discovery import FixedInstances, RegisteredInstances
from yuanlian.gateway.upstreams.http import HttpUpstream
from yuanlian.gateway.upstreams.tunnel import Tunnels
from yuanlian.gateway.upstreams.websocket_tunnel import WebSocketTunnel
from yuanlian.gateway.websocket import WebSocketEndpoint
from yuanlian.kit.clock import SystemClock
from yuanlian.kit.identity.internal import InternalIdentity
from yuanlian.kit.identity.redis import hear
from yuanlian.kit.identity.tokens import AccessTokenVerifier, key_id
from yuanlian.kit.observe.edge import EdgeObserver
from yuanlian.kit.observe.health import HealthChecker
from yuanlian.kit.observe.logs import Log
from yuanlian.kit.observe.metrics import Metrics
from yuanlian.kit.registry.fixed import FixedRegistry
from yuanlian.kit.registry.registry import Instance, Registry
from yuanlian.kit.resilience.limiter import RateLimiter
from yuanlian.kit.resilience.memory import MemoryRateLimiter
from yuanlian.runtime import listening, routing, upstream_metrics
from yuanlian.runtime.listening import Listening, open_tls
from yuanlian.runtime.service_upstreams import Upstreams
from yuanlian.runtime.settings import Settings, UnsupportedSettingError
from yuanlian.runtime.shared import Shared, shared
from yuanlian.runtime.stopping import Chore, one_after_another
from yuanlian.runtime.upstreams import host_and_port

ANSWER_S = 10.0
"""What services may take to answer the gateway itself, which holds back requests meanwhile; a feed that is
cut off without a word is asked anew after it."""


@dataclass(frozen=True)
class Edge:
    """A gateway; nothing is started and nothing listens yet. ``chores`` go on while it serves,
    as do ``watches``, which take changed files over; ``reload`` reads them at once."""

    public: Listening
    admin: Listening
    upstreams: Upstreams
    tunnels: Tunnels
    websocket: WebSocketEndpoint | None
    """Where live events reach this process; elsewhere ``/ws`` is tunnelled."""
    connections: AbstractAsyncContextManager[None]
    """Opened before everything else, closed last."""
    revocations: FollowedRevocations
    observer: EdgeObserver
    metrics: Metrics
    health: HealthChecker
    chores: tuple[Chore, ...]
    watches: tuple[Chore, ...]
    reload: Chore


@dataclass(frozen=True, slots=True)
class _Parts:
    """What a gateway is made of. ``shared``: None where its services are written down."""

    settings: Settings
    clock: SystemClock
    shared: Shared | None
    upstreams: Upstreams
    client: UpstreamClient
    identity: InternalIdentity
    verifier: AccessTokenVerifier
    proxies: TrustedProxies
    revocations: FollowedRevocations
    directory: FollowedTenantDirectory
    health: HealthChecker
    metrics: Metrics
    observer: EdgeObserver

    async def show_metrics(self) -> bytes:
        return self.metrics.render()


def edge(settings: Settings, log: Log, limiter: RateLimiter | None = None) -> Edge:
    """Builds a gateway in front of services over HTTP. ``limiter``: the one that workers
    share, where there is no Redis for that.

    Raises:
        UnsupportedSettingError, ValueError, RoutesRefusedError: a setting that cannot be followed.
    """
    if not settings.has_token_secret:
        raise UnsupportedSettingError("YUANLIAN_JWT_SECRET: a gateway needs the one that the services have")
    routes = routing.routes_of(settings)
    table = routes.read()
    parts = _parts(settings, log, table)
    gateway = _gateway(parts, table, limiter)
    gateway.tunnels = tunnels = Tunnels(
        gateway.admit_tunnel, parts.observer, parts.revocations, parts.directory, parts.clock
    )
    websocket = None
    if parts.shared is None:
        gateway.websocket = WebSocketTunnel(tunnels)
    else:
        _follow_shared(parts, parts.shared)
        gateway.websocket = websocket = _websocket(parts, parts.shared)
    tls = open_tls(settings, parts.clock, parts.health, parts.metrics)
    watches, reload = _changed_files(parts, routes, gateway, tls)
    return Edge(
        public=listening.public(settings, gateway, gateway.is_trusted_proxy, tls),
        admin=listening.admin(settings, _admin(parts, gateway)),
        upstreams=parts.upstreams,
        tunnels=tunnels,
        websocket=websocket,
        connections=contextlib.nullcontext() if parts.shared is None else parts.shared.running(),
        revocations=parts.revocations,
        observer=parts.observer,
        metrics=parts.metrics,
        health=parts.health,
        chores=(parts.revocations.feed.follow, parts.directory.feed.follow),
        watches=watches,
        reload=reload,
    )


def _parts(settings: Settings, log: Log, table: RouteTable) -> _Parts:
    clock = SystemClock()
    common = shared(settings, clock) if settings.is_distributed else None
    upstreams = _written_down(settings, table) if common is None else _registered(common.registry, table)
    identity = InternalIdentity(settings.internal_secret(), clock)
    client = UpstreamClient(upstreams, identity, ANSWER_S)
    secret = settings.token_secret()
    revocations = FollowedRevocations(client, clock, settings.revocations_grace_s)
    directory = FollowedTenantDirectory(client)
    health = HealthChecker(clock)
    health.add("revocations", revocations.check)
    health.add("tenants", directory.check)
    metrics = Metrics()
    observer = EdgeObserver(log, metrics)
    upstream_metrics.watch(metrics, upstreams.distinct)
    return _Parts(
        settings=settings,
        clock=clock,
        shared=common,
        upstreams=upstreams,
        client=client,
        identity=identity,
        verifier=AccessTokenVerifier({key_id(secret): secret}, clock),
        proxies=TrustedProxies(settings.trusted_proxies),
        revocations=revocations,
        directory=directory,
        health=health,
        metrics=metrics,
        observer=observer,
    )


def _gateway(parts: _Parts, table: RouteTable, limiter: RateLimiter | None) -> Gateway:
    async def describe() -> Mapping[str, Any]:
        packaged = await asyncio.to_thread(routing.RoutesSource(DEFAULT_ROUTES).read)
        return await description.describe(parts.client, parts.upstreams, packaged, gateway.table)

    common = parts.shared
    gateway = Gateway(
        table,
        parts.upstreams,
        verifier=parts.verifier,
        revocations=parts.revocations,
        identity=parts.identity,
        directory=parts.directory,
        limiter=(limiter or MemoryRateLimiter(parts.clock)) if common is None else common.limiter,
        clock=parts.clock,
        pages=Pages(describe, parts.health.ready),
        trusted_proxies=parts.proxies,
        bad_tokens_per_minute=parts.settings.bad_tokens_per_minute,
    )
    return gateway


def _follow_shared(parts: _Parts, common: Shared) -> None:
    """What other processes say at once, before the feeds do."""
    hear(common.channels, parts.revocations)
    common.tenants.hear(parts.directory.enter, parts.directory.forget)
    parts.health.add("redis", common.redis.ping, vital=False)


def _websocket(parts: _Parts, common: Shared) -> WebSocketEndpoint:
    return WebSocketEndpoint(
        common.hub,
        parts.verifier,
        parts.revocations,
        parts.directory,
        parts.client,
        parts.observer,
        clock=parts.clock,
        trusted_proxies=parts.proxies,
        bad_tokens_per_minute=parts.settings.bad_tokens_per_minute,
    )


def _changed_files(
    parts: _Parts, routes: routing.RoutesSource, gateway: Gateway, tls: Tls | None
) -> tuple[tuple[Chore, ...], Chore]:
    """What watches them, and what reads them at once."""
    prepare = parts.upstreams.take_in
    watches: list[Chore] = []
    reloads: list[Chore] = [partial(routing.reload, routes, gateway, prepare)]
    if parts.settings.routes is not None:
        watches.append(partial(routing.follow, routes, gateway, prepare=prepare))
    if tls is not None:
        watches.append(tls.follow)
        reloads.append(tls.reload)
    return tuple(watches), partial(one_after_another, reloads)


def _admin(parts: _Parts, gateway: Gateway) -> Admin:
    common = parts.shared
    return Admin(
        metrics=parts.show_metrics,
        health=parts.health.report,
        table=lambda: gateway.table,
        registry=FixedRegistry(_instances(parts.settings)) if common is None else common.registry,
    )


def _registered(registry: Registry, table: RouteTable) -> Upstreams:
    """Whoever the registry names."""

    def make(name: str) -> HttpUpstream:
        return HttpUpstream(name, RegisteredInstances(registry, name))

    names = {AUTH, TENANT, *(route.service for route in table.routes)}
    return Upstreams({name: make(name) for name in sorted(names)}, make)


def _written_down(settings: Settings, table: RouteTable) -> Upstreams:
    """Services on the same instances share connections, health and all that is learnt of them.

    Raises:
        UnsupportedSettingError: one that is needed is missing.
    """
    by_urls: dict[tuple[str, ...], HttpUpstream] = {}
    by_service: dict[str, HttpUpstream] = {}
    for service, urls in settings.upstreams.items():
        if urls not in by_urls:
            name = "services" if service == EVERY_SERVICE else service
            by_urls[urls] = HttpUpstream(name, FixedInstances(urls))
        by_service[service] = by_urls[urls]
    upstreams = Upstreams(by_service)
    _all_there(upstreams, table)
    return upstreams


def _all_there(upstreams: Upstreams, table: RouteTable) -> None:
    needed = {AUTH, TENANT, REALTIME, *(route.service for route in table.routes)}
    missing = sorted(service for service in needed if upstreams.get(service) is None)
    if missing:
        raise UnsupportedSettingError(
            f"YUANLIAN_UPSTREAMS: says nothing of {', '.join(missing)}; "
            f"for example *=http://127.0.0.1:9101, where `yuanlian run services` listens"
        )


def _instances(settings: Settings) -> list[Instance]:
    return [
        Instance(service, url, *host_and_port(url), __version__)
        for service, urls in settings.upstreams.items()
        for url in urls
    ]
