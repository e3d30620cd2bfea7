"""Opening listeners, with a plain word when that cannot be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from yuanlian.gateway.certificates import CertificateError
from yuanlian.gateway.handler import Handler
from yuanlian.gateway.internal import LIMITS
from yuanlian.gateway.limits import Limits
from yuanlian.gateway.observer import Observer
from yuanlian.gateway.peers import nobody
from yuanlian.gateway.server import GatewayServer
from yuanlian.gateway.tls import Tls
from yuanlian.kit.clock import Clock
from yuanlian.kit.observe.health import HealthChecker
from yuanlian.kit.observe.metrics import Metrics
from yuanlian.runtime.refusals import Refusal
from yuanlian.runtime.settings import Settings, UnsupportedSettingError


def client_limits(settings: Settings) -> Limits:
    return Limits(
        head_s=settings.header_timeout_s,
        body_stall_s=settings.body_timeout_s,
        idle_s=settings.keep_alive_s,
        connections_per_address=settings.connections_per_address,
    )


@dataclass(frozen=True)
class Addresses:
    public: str
    admin: str


class AddressInUseError(Refusal):
    """A port is taken; the message says which and what to do."""

    @classmethod
    def of(cls, listening: Listening, error: OSError) -> AddressInUseError:
        return cls(
            f"cannot listen on {listening.host}:{listening.port} ({error.strerror or error}); "
            f"is another process there? choose another port with {listening.setting}"
        )


@dataclass(frozen=True, slots=True)
class Listening:
    """A listener to be opened. ``setting``: the one that chooses another port. ``exempt``: whose
    connections are not counted. ``tls``: None where it speaks plain HTTP. ``limits``: None for those of
    clients."""

    handler: Handler
    host: str
    port: int
    setting: str
    exempt: Callable[[str], bool] = nobody
    tls: Tls | None = None
    limits: Limits | None = None

    def url(self, port: int) -> str:
        """Its base URL, once the port is known."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'http' if self.tls is None else 'https'}://{host}:{port}"


def public(settings: Settings, handler: Handler, exempt: Callable[[str], bool], tls: Tls | None) -> Listening:
    """For clients."""
    limits = client_limits(settings)
    return Listening(handler, settings.host, settings.port, "YUANLIAN_PORT", exempt, tls, limits)


def admin(settings: Settings, handler: Handler) -> Listening:
    """For operators, beside ``public``."""
    return Listening(handler, settings.admin_host, settings.admin_port, "YUANLIAN_ADMIN_PORT")


def services(settings: Settings, handler: Handler) -> Listening:
    """For gateways, and other services."""
    host, port = settings.services_host, settings.services_port
    return Listening(handler, host, port, "YUANLIAN_SERVICES_PORT", everybody, limits=LIMITS)


def services_admin(settings: Settings, handler: Handler) -> Listening:
    """For operators, beside ``services``."""
    port = settings.services_admin_port
    return Listening(handler, settings.admin_host, port, "YUANLIAN_SERVICES_ADMIN_PORT")


def open_tls(settings: Settings, clock: Clock, health: HealthChecker, metrics: Metrics) -> Tls | None:
    """The certificates that the settings name, watched by ``health`` and ``metrics``. One that has ended
    is no reason to take no requests: clients see it, and decide.

    Raises:
        UnsupportedSettingError: none of them can be used.
    """
    if settings.tls_dir is None:
        return None
    tls = Tls(settings.tls_dir, clock)
    try:
        tls.read()
    except CertificateError as error:
        raise UnsupportedSettingError(f"YUANLIAN_TLS_DIR: {error}") from None
    health.add("certificates", tls.check, vital=False)
    metrics.watch(
        "tls_certificate_not_after_timestamp_seconds",
        "When a certificate ends",
        "certificate",
        tls.expiries,
        together="min",
    )
    return tls


def everybody(address: str) -> bool:
    """Of gateways, each has many connections."""
    del address
    return True


def server_for(listening: Listening, observer: Observer) -> GatewayServer:
    tls = listening.tls.context if listening.tls is not None else None
    return GatewayServer(listening.handler, observer, listening.limits, listening.exempt, tls)


async def listen(server: GatewayServer, listening: Listening) -> str:
    """The base URL of the server, which listens now.

    Raises:
        AddressInUseError
    """
    try:
        return listening.url(await server.start(listening.host, listening.port))
    except OSError as error:
        raise AddressInUseError.of(listening, error) from None
