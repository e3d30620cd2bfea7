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
from yuanlian.runtime.shared import shared
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


def edge(settings: Settings, log: Log, limiter: RateLimiter | None = None) -> Edge:
    """Builds a gateway in front of services over HTTP. ``limiter``: the one that workers
    share, where there is no Redis for that.

    Raises:
        UnsupportedSettingError, ValueError, RoutesRefusedError: a setting that cannot be followed.
    """
    if not settings.has_token_secret:
        raise UnsupportedSettingError("YUANLIAN_JWT_SECRET: a gateway needs the one that the services have")
    clock = SystemClock()
    secret = settings.token_secret()
    routes = routing.routes_of(settings)
    table = routes.read()
    common = shared(settings, clock) if settings.is_distributed else None
    if common is None:
        upstreams = _written_down(settings)
        _all_there(upstreams, table)
    else:
        upstreams = _registered(common.registry, table)
    identity = InternalIdentity(settings.internal_secret(), clock)
    client = UpstreamClient(upstreams, identity, ANSWER_S)
    revocations = FollowedRevocations(client, clock, settings.revocations_grace_s)
    directory = FollowedTenantDirectory(client)
    health = HealthChecker(clock)
    health.add("revocations", revocations.check)
    health.add("tenants", directory.check)
    verifier = AccessTokenVerifier({key_id(secret): secret}, clock)
    metrics = Metrics()
    observer = EdgeObserver(log, metrics)

    async def describe() -> Mapping[str, Any]:
        packaged = await asyncio.to_thread(routing.RoutesSource(DEFAULT_ROUTES).read)
        return await description.describe(client, upstreams, packaged, gateway.table)

    gateway = Gateway(
        table,
        upstreams,
        verifier=verifier,
        revocations=revocations,
        identity=identity,
        directory=directory,
        limiter=(limiter or MemoryRateLimiter(clock)) if common is None else common.limiter,
        clock=clock,
        pages=Pages(describe, health.ready),
        trusted_proxies=(proxies := TrustedProxies(settings.trusted_proxies)),
        bad_tokens_per_minute=settings.bad_tokens_per_minute,
    )
    upstream_metrics.watch(metrics, upstreams.distinct)
    gateway.tunnels = tunnels = Tunnels(gateway.admit_tunnel, observer, revocations, directory, clock)
    websocket = None
    if common is None:
        gateway.websocket = WebSocketTunnel(tunnels)
    else:
        hear(common.channels, revocations)
        common.tenants.hear(directory.enter, directory.forget)
        health.add("redis", common.redis.ping, vital=False)
        gateway.websocket = websocket = WebSocketEndpoint(
            common.hub, verifier, revocations, directory, client, observer, clock=clock,
            trusted_proxies=proxies, bad_tokens_per_minute=settings.bad_tokens_per_minute,
        )  # fmt: skip
    tls = open_tls(settings, clock, health, metrics)
    watches: list[Chore] = []
    reloads: list[Chore] = [partial(routing.reload, routes, gateway, upstreams.take_in)]
    if settings.routes is not None:
        watches.append(partial(routing.follow, routes, gateway, prepare=upstreams.take_in))
    if tls is not None:
        watches.append(tls.follow)
        reloads.append(tls.reload)

    async def show_metrics() -> bytes:
        return metrics.render()

    admin = Admin(
        metrics=show_metrics,
        health=health.report,
        table=lambda: gateway.table,
        registry=FixedRegistry(_instances(settings)) if common is None else common.registry,
    )
    return Edge(
        public=listening.public(settings, gateway, gateway.is_trusted_proxy, tls),
        admin=listening.admin(settings, admin),
        upstreams=upstreams,
        tunnels=tunnels,
        websocket=websocket,
        connections=contextlib.nullcontext() if common is None else common.running(),
        revocations=revocations,
        observer=observer,
        metrics=metrics,
        health=health,
        chores=(revocations.feed.follow, directory.feed.follow),
        watches=tuple(watches),
        reload=partial(one_after_another, reloads),
    )


def _registered(registry: Registry, table: RouteTable) -> Upstreams:
    """Whoever the registry names."""

    def make(name: str) -> HttpUpstream:
        return HttpUpstream(name, RegisteredInstances(registry, name))

    names = {AUTH, TENANT, *(route.service for route in table.routes)}
    return Upstreams({name: make(name) for name in sorted(names)}, make)


def _written_down(settings: Settings) -> Upstreams:
    """Services on the same instances share connections, health and all that is learnt of them."""
    by_urls: dict[tuple[str, ...], HttpUpstream] = {}
    by_service: dict[str, HttpUpstream] = {}
    for service, urls in settings.upstreams.items():
        if urls not in by_urls:
            name = "services" if service == EVERY_SERVICE else service
            by_urls[urls] = HttpUpstream(name, FixedInstances(urls))
        by_service[service] = by_urls[urls]
    return Upstreams(by_service)


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
