"""The analytics service's manifest."""

from __future__ import annotations

from yuanlian.kit.clock import Clock
from yuanlian.kit.database.database import Database
from yuanlian.kit.http.app import service_app
from yuanlian.kit.http.client import ServiceClient
from yuanlian.kit.identity.internal import InternalIdentity
from yuanlian.kit.module import ServiceModule
from yuanlian.services.analytics.handlers import subscriptions
from yuanlian.services.analytics.routes import routes
from yuanlian.services.analytics.service import AnalyticsService

NAME = "analytics-service"


def module(
    *,
    database: Database,
    clock: Clock,
    identity: InternalIdentity,
    client: ServiceClient,
) -> ServiceModule:
    service = AnalyticsService(database=database, client=client, clock=clock)
    return ServiceModule(
        name=NAME,
        app=service_app(NAME, routes(service), identity),
        subscriptions=subscriptions(service),
        checks={"database": database.ping},
    )
