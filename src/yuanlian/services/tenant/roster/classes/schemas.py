"""Classes on the wire. CONTRACT §6."""

from __future__ import annotations

import msgspec
from msgspec import UNSET, UnsetType

from yuanlian.services.tenant.wire import ShortText


class NewClass(msgspec.Struct, forbid_unknown_fields=True):
    name: ShortText
    grade: ShortText | None = None


class ClassChange(msgspec.Struct, forbid_unknown_fields=True):
    """Absent fields stay; ``grade: null`` takes the grade away."""

    name: ShortText | UnsetType = UNSET
    grade: ShortText | UnsetType | None = UNSET


class ClassView(msgspec.Struct, frozen=True):
    """``createdAt`` in epoch ms."""

    id: str
    name: str
    grade: str | None
    createdAt: int
