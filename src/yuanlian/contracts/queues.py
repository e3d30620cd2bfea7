"""Which queue gets which messages. CONTRACT §8.

A broker has to know every queue before the first message for it, whether or not its consumer has ever
started. Each service says the same of its own queues in its manifest; a test compares.
"""

from __future__ import annotations

from yuanlian.contracts.attendance import ATTENDANCE_UPDATE
from yuanlian.contracts.auth import MEMBER_REMOVED
from yuanlian.contracts.notification import NOTIFICATION_EMAIL, NOTIFICATION_PUSH, NOTIFICATION_SMS

QUEUES: dict[str, tuple[str, ...]] = {
    "attendance.queue": (ATTENDANCE_UPDATE,),
    "roster.queue": (MEMBER_REMOVED,),
    "notification.queue": (ATTENDANCE_UPDATE,),
    "email.queue": (NOTIFICATION_EMAIL,),
    "analytics.queue": (ATTENDANCE_UPDATE,),
    "sms.queue": (NOTIFICATION_SMS,),
    "push.queue": (NOTIFICATION_PUSH,),
}

NOT_YET_CONSUMED = frozenset(("sms.queue", "push.queue"))
"""The specification's; what is sent there waits for the release that has their channels."""
