"""Events and commands in."""

from __future__ import annotations

from yuanlian.contracts.attendance import ATTENDANCE_UPDATE
from yuanlian.contracts.notification import NOTIFICATION_EMAIL
from yuanlian.kit.messaging.bus import Subscription
from yuanlian.services.notification.delivery import EmailDelivery
from yuanlian.services.notification.service import NotificationService

EMAILS_PER_CONNECTION = 16


def subscriptions(service: NotificationService, delivery: EmailDelivery) -> list[Subscription]:
    return [
        Subscription("notification.queue", (ATTENDANCE_UPDATE,), service.tell_guardians),
        Subscription("email.queue", (NOTIFICATION_EMAIL,), delivery.deliver, batch=EMAILS_PER_CONNECTION),
    ]
