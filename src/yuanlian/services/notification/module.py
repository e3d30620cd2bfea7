"""The notification service's manifest."""

from __future__ import annotations

from yuanlian.kit.clock import Clock
from yuanlian.kit.database.database import Database
from yuanlian.kit.http.app import service_app
from yuanlian.kit.http.client import ServiceClient
from yuanlian.kit.identity.internal import InternalIdentity
from yuanlian.kit.module import ServiceModule
from yuanlian.kit.realtime.hub import Realtime
from yuanlian.services.notification.delivery import EmailDelivery
from yuanlian.services.notification.handlers import subscriptions
from yuanlian.services.notification.mailer import Mailer
from yuanlian.services.notification.routes import routes
from yuanlian.services.notification.service import NotificationService

NAME = "notification-service"


def module(
    *,
    database: Database,
    clock: Clock,
    identity: InternalIdentity,
    client: ServiceClient,
    realtime: Realtime,
    mailer: Mailer,
) -> ServiceModule:
    service = NotificationService(database=database, clock=clock, client=client, realtime=realtime)
    delivery = EmailDelivery(database=database, clock=clock, mailer=mailer)
    return ServiceModule(
        name=NAME,
        app=service_app(NAME, routes(service), identity),
        subscriptions=subscriptions(service, delivery),
        checks={"database": database.ping},
    )
