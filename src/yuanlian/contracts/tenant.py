"""What the tenant service answers to other parts of the platform, over ``ServiceClient``.

Paths under ``/internal`` are in no routing table and not in the public API: their answers are for a
service that acts for the caller, and hold more than the caller may read.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from yuanlian.kit.tenancy.directory import Tenant

SERVICE = "tenant-service"
PLATFORM = "platform"
"""The operators' own tenant (CONTRACT §5); it has no children and cannot be suspended."""

CHANNELS_PATH = "/internal/tenant/channels"
"""``GET``: the realtime channels the caller follows without asking → ``Channels``."""
CHANNEL_CHECK_PATH = "/internal/tenant/channels/check"
"""``GET ?channel=``: 200 when the caller may follow it, else 403 or 404."""
RECIPIENTS_PATH = "/internal/tenant/recipients"
"""``GET ?audience=``: who an announcement reaches → ``Audience``; ``tenant``, ``staff`` or ``class:ID``."""
ATTRIBUTES_PATH = "/internal/tenant/attributes"
"""``GET``: what permission conditions know about the caller → ``Attributes``."""
DIRECTORY_PATH = "/internal/tenant/directory"
"""``GET ?id=`` or ``?domain=``, for gateways: that tenant → ``Found``."""
DIRECTORY_CHANGES_PATH = "/internal/tenant/directory/changes"
"""``GET ?after=CURSOR``, for gateways: tenants that changed since, and a few that did not →
``kit.feed.Changes`` of ``Tenant``; complete, it has none of them: whatever is known may be old. Any instance
can be asked."""
DAYS_PATH = "/api/tenant/attendance/days"
"""``GET ?from=&to=&limit=&cursor=`` → page of ``contracts.attendance.StudentDay``."""


class Found(msgspec.Struct, frozen=True):
    """``tenant`` is null when there is no such tenant."""

    tenant: Tenant | None


class Channels(msgspec.Struct, frozen=True):
    channels: tuple[str, ...]


class Attributes(msgspec.Struct, frozen=True):
    """``user.classIds``: classes the caller looks after; ``studentIds``: their own children;
    ``childClassIds``: the classes of those who are active."""

    classIds: tuple[str, ...]
    studentIds: tuple[str, ...]
    childClassIds: tuple[str, ...]


class AudienceMember(msgspec.Struct, frozen=True, omit_defaults=True):
    """Somebody to tell, and how; ``email`` and ``userId`` may both be missing."""

    name: str
    kind: Literal["guardian", "staff"]
    userId: str | None = None
    email: str | None = None


class Audience(msgspec.Struct, frozen=True):
    members: tuple[AudienceMember, ...]
