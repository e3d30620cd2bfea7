"""Commands to the notification service's channels."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

NOTIFICATION_EMAIL = "notification.email"
NOTIFICATION_SMS = "notification.sms"
NOTIFICATION_PUSH = "notification.push"


class SendEmail(msgspec.Struct, frozen=True, omit_defaults=True):
    """The specification's ``notification.email`` data.

    ``template`` names a template of the notification service and ``variables`` fill it.
    ``receiptId`` is the receipt to bring up to date; without one nobody records the outcome.
    """

    to: str
    subject: str
    template: str
    variables: dict[str, Any]
    receiptId: str | None = None
    locale: Literal["zh", "en"] = "zh"
