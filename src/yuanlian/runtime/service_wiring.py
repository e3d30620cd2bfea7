"""The composition root of one service in a process of its own: a database server, RabbitMQ and Redis
stand behind the ports, the other services are called over HTTP."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from yuanlian import __version__
from yuanlian.contracts.auth import SERVICE as AUTH
from yuanlian.contracts.queues import QUEUES
from yuanlian.contracts.tenant import SERVICE as TENANT
from yuanlian.gateway.admin import Admin
from yuanlian.gateway.followed_directory import FollowedTenantDirectory
from yuanlian.gateway.internal import QUIET, InternalEdge
from yuanlian.gateway.openapi import merge
from yuanlian.gateway.routes import RouteTable
from yuanlian.gateway.service_client import UpstreamClient
from yuanlian.gateway.upstreams.discovery import RegisteredInstances
from yuanlian.gateway.upstreams.http import HttpUpstream
from yuanlian.kit.clock import SystemClock
from yuanlian.kit.database.database import ManagedDatabase
from yuanlian.kit.database.url import database_from_url
from yuanlian.kit.identity.internal import InternalIdentity
from yuanlian.kit.identity.tokens import key_id
from yuanlian.kit.messaging.lease import RelayLease
from yuanlian.kit.messaging.rabbitmq import RabbitMqBus
from yuanlian.kit.messaging.relay import Relay
from yuanlian.kit.module import ServiceModule
from yuanlian.kit.observe.edge import EdgeObserver
from yuanlian.kit.observe.health import HealthChecker
from yuanlian.kit.observe.logs import Log
from yuanlian.kit.observe.metrics import Metrics
from yuanlian.runtime import listening, messaging_metrics
from yuanlian.runtime.housekeeping import keep_tidy
from yuanlian.runtime.platform import Platform, by_prefix, mailer
from yuanlian.runtime.registration import Registration
from yuanlian.runtime.settings import Settings, UnsupportedSettingError, shown
from yuanlian.runtime.shared import Shared, shared
from yuanlian.runtime.stopping import Chore, one_after_another

CALLED = (AUTH, TENANT)
"""The services that others call."""
OUTBOX_POLL_S = 0.05
"""The relay that holds the lease is not woken by what other processes add."""
OUTBOX_GATHER_S = 0.06
"""Under load: a message costs the broker and every consumer less, the more go along."""

_NOWHERE = (
    "YUANLIAN_ADVERTISE_HOST: set it to the address at which gateways reach this machine; the name {} stands "
    "for {}"
)


@dataclass(frozen=True, slots=True)
class _Parts:
    """What a service is made of."""

    settings: Settings
    clock: SystemClock
    database: ManagedDatabase
    identity: InternalIdentity
    upstreams: Mapping[str, HttpUpstream]
    client: UpstreamClient
    followed: FollowedTenantDirectory
    shared: Shared


def service(name: str, settings: Settings, log: Log) -> Platform:
    """``name``: ``auth``, ``tenant``, ``notification`` or ``analytics``. Nothing is started yet.

    Raises:
        UnsupportedSettingError, ValueError: a setting that cannot be followed.
    """
    refuse_embedded(settings)
    host = advertised_host(settings)
    parts = _parts(settings)
    module = _MODULES[name](parts)
    bus = _bus(parts, module)
    relay = _relay(parts, bus)
    health = _health(parts, module, bus)
    metrics = Metrics()
    messaging_metrics.watch(metrics, bus, relay)
    return Platform(
        database=parts.database,
        modules=(module,),
        bus=bus,
        relay=relay,
        registration=Registration(parts.shared.registry, [module.name], host),
        websocket=None,
        observer=EdgeObserver(log, metrics, QUIET),
        public=listening.services(settings, _internal_edge(parts, module, health)),
        admin=listening.services_admin(settings, _admin(parts, health, metrics)),
        chores=_chores(parts, name),
        reload=partial(one_after_another, ()),
        connections=parts.shared.running(),
        upstreams=tuple(parts.upstreams.values()),
    )


def _parts(settings: Settings) -> _Parts:
    clock = SystemClock()
    common = shared(settings, clock)
    assert settings.database_url is not None  # refused above
    identity = InternalIdentity(settings.internal_secret(), clock)
    upstreams = {
        called: HttpUpstream(called, RegisteredInstances(common.registry, called)) for called in CALLED
    }
    client = UpstreamClient(upstreams, identity)
    return _Parts(
        settings=settings,
        clock=clock,
        database=database_from_url(settings.database_url),
        identity=identity,
        upstreams=upstreams,
        client=client,
        followed=FollowedTenantDirectory(client),
        shared=common,
    )


def _bus(parts: _Parts, module: ServiceModule) -> RabbitMqBus:
    bus = RabbitMqBus(parts.settings.bus_url, parts.clock, bindings=QUEUES, name=module.name)
    for subscription in module.subscriptions:
        bus.subscribe(subscription)
    return bus


def _relay(parts: _Parts, bus: RabbitMqBus) -> Relay:
    lease = RelayLease(parts.database)
    return Relay(parts.database, bus, parts.clock, gather=OUTBOX_GATHER_S, poll=OUTBOX_POLL_S, lease=lease)


def _health(parts: _Parts, module: ServiceModule, bus: RabbitMqBus) -> HealthChecker:
    health = HealthChecker(parts.clock)
    for check, ask in module.checks.items():
        health.add(f"{module.name}.{check}", ask)
    # What is accepted without them waits in the outbox, or is counted per process.
    health.add("bus", bus.ping, vital=False)
    health.add("redis", parts.shared.redis.ping, vital=False)
    return health


def _chores(parts: _Parts, name: str) -> tuple[Chore, ...]:
    """Whoever is not the tenant service follows it: what it says at once, and its feed."""
    tidy = partial(keep_tidy, parts.database, parts.clock)
    if name == "tenant":
        return (tidy,)
    parts.shared.tenants.hear(parts.followed.enter, parts.followed.forget)
    return tidy, parts.followed.feed.follow


def _internal_edge(parts: _Parts, module: ServiceModule, health: HealthChecker) -> InternalEdge:
    async def describe() -> Any:
        return await asyncio.to_thread(_openapi, module)

    return InternalEdge(by_prefix([module]), parts.identity, describe=describe, ready=health.ready)


def _admin(parts: _Parts, health: HealthChecker, metrics: Metrics) -> Admin:
    async def show_metrics() -> bytes:
        return metrics.render()

    table = RouteTable([])
    return Admin(
        metrics=show_metrics, health=health.report, table=lambda: table, registry=parts.shared.registry
    )


def refuse_embedded(settings: Settings) -> None:
    """Raises:
    UnsupportedSettingError: a setting names what only one process can have.
    """
    wanted = {
        "database_url": ("mysql", "mysql+asyncmy://user:password@127.0.0.1:3306/yuanlian"),
        "bus_url": ("amqp", "amqp://user:password@127.0.0.1:5672/"),
        "cache_url": ("redis", "redis://127.0.0.1:6379/0"),
        "registry_url": ("redis", "redis://127.0.0.1:6379/0"),
    }
    for name, (technology, example) in wanted.items():
        url = getattr(settings, name) or ""
        spoken = url.startswith((technology, "mariadb" if technology == "mysql" else technology))
        if not spoken or "://" not in url:
            raise UnsupportedSettingError(
                f"YUANLIAN_{name.upper()}: a service in a process of its own needs {technology}, "
                f"not {shown(url) if url else 'nothing'}; for example {example}"
            )
    if not settings.has_token_secret:
        raise UnsupportedSettingError("YUANLIAN_JWT_SECRET: every part of an installation needs the same one")


def _auth(parts: _Parts) -> ServiceModule:
    from yuanlian.services.auth.module import module  # only what this process runs
    from yuanlian.services.auth.tokens import TokenIssuer

    secret = parts.settings.token_secret()
    kid = key_id(secret)
    return module(
        database=parts.database,
        issuer=TokenIssuer({kid: secret}, kid),
        revocations=parts.shared.revocations,
        directory=parts.followed,
        clock=parts.clock,
        identity=parts.identity,
    )


def _tenant(parts: _Parts) -> ServiceModule:
    from yuanlian.services.tenant.module import module  # only what this process runs
    from yuanlian.services.tenant.tenants.directory import DatabaseTenantDirectory

    changes = parts.shared.tenants
    directory = DatabaseTenantDirectory(parts.database, parts.clock, changes.tell)
    changes.hear(directory.enter, directory.forget)
    return module(
        database=parts.database,
        directory=directory,
        clock=parts.clock,
        identity=parts.identity,
        client=parts.client,
        realtime=parts.shared.hub,
        cache=parts.shared.cache,
    )


def _notification(parts: _Parts) -> ServiceModule:
    from yuanlian.services.notification.module import module  # only what this process runs

    return module(
        database=parts.database,
        clock=parts.clock,
        identity=parts.identity,
        client=parts.client,
        realtime=parts.shared.hub,
        mailer=mailer(parts.settings),
    )


def _analytics(parts: _Parts) -> ServiceModule:
    from yuanlian.services.analytics.module import module  # only what this process runs

    return module(database=parts.database, clock=parts.clock, identity=parts.identity, client=parts.client)


_MODULES: dict[str, Callable[[_Parts], ServiceModule]] = {
    "auth": _auth,
    "tenant": _tenant,
    "notification": _notification,
    "analytics": _analytics,
}
SERVICES = tuple(_MODULES)


def advertised_host(settings: Settings) -> str:
    """The address under which gateways and other services find this process.

    Raises:
        UnsupportedSettingError: it listens on every address, and none can be made out that others reach.
    """
    if settings.advertise_host is not None:
        return settings.advertise_host
    if not _is_every_address(settings.services_host):
        return settings.services_host
    name = socket.gethostname()
    try:
        address = socket.gethostbyname(name)
    except (OSError, UnicodeError):
        raise UnsupportedSettingError(_NOWHERE.format(name, "no address")) from None
    found = ipaddress.ip_address(address)
    if found.is_loopback or found.is_unspecified:
        # Debian writes 127.0.1.1 beside the machine's name.
        raise UnsupportedSettingError(_NOWHERE.format(name, f"{address}, which only this machine reaches"))
    return address


def _is_every_address(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False  # a name


def _openapi(module: ServiceModule) -> dict[str, Any]:
    return merge({module.name: module.app.litestar.openapi_schema.to_schema()}, "园联 Yuanlian", __version__)
