"""Which queue gets which messages. CONTRACT §8.

A broker has to know every queue before the first message for it, whether or not its consumer has ever
started. Each service says the same of its own queues in its manifest; a test compares.
"""

from __future__ import annotations

from yuanlian.contracts.attendance import ATTENDANCE_UPDATE
from yuanlian.contracts.auth import MEMBER_REMOVED
from yuanlian.contracts.notification import NOTIFICATION_EMAIL

QUEUES: dict[str, tuple[str, ...]] = {
    "attendance.queue": (ATTENDANCE_UPDATE,),
    "roster.queue": (MEMBER_REMOVED,),
    "notification.queue": (ATTENDANCE_UPDATE,),
    "email.queue": (NOTIFICATION_EMAIL,),
    "analytics.queue": (ATTENDANCE_UPDATE,),
}
