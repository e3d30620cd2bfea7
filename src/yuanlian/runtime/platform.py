"""Services in one process, ready to be started: what every shape of the platform is made of."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from yuanlian.gateway.observer import Observer
from yuanlian.gateway.upstreams.asgi import AsgiUpstream
from yuanlian.gateway.upstreams.http import HttpUpstream
from yuanlian.gateway.upstreams.upstream import Upstream
from yuanlian.gateway.websocket import WebSocketEndpoint
from yuanlian.kit.database.database import ManagedDatabase
from yuanlian.kit.messaging.bus import Bus
from yuanlian.kit.messaging.relay import Relay
from yuanlian.kit.module import ServiceModule
from yuanlian.runtime.listening import Listening
from yuanlian.runtime.registration import Registration
from yuanlian.runtime.settings import Settings
from yuanlian.runtime.stopping import Chore
from yuanlian.services.notification.mailer import Mailer


@dataclass(frozen=True)
class Platform:
    """Services in one process, with the gateway or an internal listener in front. The launcher starts and
    stops its parts in order; ``chores`` go on meanwhile, ``reload`` reads files again."""

    database: ManagedDatabase
    modules: tuple[ServiceModule, ...]
    bus: Bus
    relay: Relay
    registration: Registration
    websocket: WebSocketEndpoint | None
    observer: Observer
    public: Listening
    admin: Listening
    chores: tuple[Chore, ...]
    reload: Chore
    connections: AbstractAsyncContextManager[None]
    """Opened before everything else, closed last."""
    upstreams: tuple[HttpUpstream, ...] = ()
    """Other services, where they are in other processes."""


def by_prefix(modules: Iterable[ServiceModule]) -> dict[str, Upstream]:
    """Services by the first two segments of the paths they serve; no two share any.

    Raises:
        ValueError: two do.
    """
    found: dict[str, Upstream] = {}
    for module in modules:
        upstream = AsgiUpstream(module.app)
        for prefix in {"/".join(path.split("/", 3)[1:3]) for path in module.app.paths}:
            if prefix in found:
                raise ValueError(f"{module.name}: /{prefix} is another service's")
            found[prefix] = upstream
    return found


def mailer(settings: Settings) -> Mailer:
    if settings.smtp_url is not None:
        from yuanlian.services.notification.smtp import SmtpMailer  # its library only where mail is sent

        return SmtpMailer(settings.smtp_url.get_secret_value())
    from yuanlian.services.notification.eml import EmlMailer  # likewise

    return EmlMailer(settings.data_dir / "mail")
