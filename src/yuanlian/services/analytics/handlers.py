"""Events in."""

from __future__ import annotations

from yuanlian.contracts.attendance import ATTENDANCE_UPDATE
from yuanlian.kit.messaging.bus import Subscription
from yuanlian.services.analytics.service import AnalyticsService


def subscriptions(service: AnalyticsService) -> list[Subscription]:
    return [Subscription("analytics.queue", (ATTENDANCE_UPDATE,), service.count)]
