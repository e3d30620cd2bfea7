"""Commands to the notification service's channels."""

from __future__ import annotations

from typing import Any

import msgspec

NOTIFICATION_EMAIL = "notification.email"


class SendEmail(msgspec.Struct, frozen=True, omit_defaults=True):
    """The specification's ``notification.email`` data. ``receiptId`` is the receipt to bring up to date."""

    to: str
    subject: str
    template: str
    variables: dict[str, Any]
    receiptId: str | None = None
