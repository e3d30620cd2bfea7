"""Kindergartens on the wire. CONTRACT §6."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from yuanlian.kit.tenancy.directory import DEFAULT_ZONE, Isolation, TenantStatus

Name = Annotated[str, Meta(min_length=1, max_length=200)]
Domain = Annotated[str, Meta(max_length=300)]
TimeZone = Annotated[str, Meta(max_length=64, description="IANA name, such as Asia/Shanghai")]
LateAfter = Annotated[
    str,
    Meta(
        pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$(?!\n)",
        description="Local time after which a child is late",
    ),
]


class NewTenant(msgspec.Struct, forbid_unknown_fields=True):
    name: Name
    domain: Domain | None = None
    status: TenantStatus = "active"
    isolation: Isolation = "shared"
    timeZone: TimeZone = DEFAULT_ZONE
    lateAfter: LateAfter = "09:00"


class TenantChange(msgspec.Struct, forbid_unknown_fields=True):
    """Absent fields stay; ``domain: null`` takes the domain away."""

    name: Name | UnsetType = UNSET
    domain: Domain | UnsetType | None = UNSET
    status: TenantStatus | UnsetType = UNSET
    isolation: Isolation | UnsetType = UNSET
    timeZone: TimeZone | UnsetType = UNSET
    lateAfter: LateAfter | UnsetType = UNSET


class TenantView(msgspec.Struct, frozen=True):
    """``createdAt`` in epoch ms."""

    id: str
    name: str
    domain: str | None
    status: str
    isolation: str
    timeZone: str
    lateAfter: str
    createdAt: int


class OwnTenant(msgspec.Struct, frozen=True):
    """What everybody who is signed in may know about the kindergarten they are in."""

    id: str
    name: str
    domain: str | None
    status: str
    timeZone: str
    lateAfter: str
