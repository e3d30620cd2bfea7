"""Staff on the wire. CONTRACT §6."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from yuanlian.services.tenant.wire import Id, ShortText

ClassIds = Annotated[list[Id], Meta(max_length=100)]


class NewStaff(msgspec.Struct, forbid_unknown_fields=True):
    """``name``: the account's, unless another is given."""

    userId: Id
    name: ShortText | None = None
    classIds: ClassIds = []


class StaffChange(msgspec.Struct, forbid_unknown_fields=True):
    """Absent fields stay; ``classIds`` replaces the whole list."""

    name: ShortText | UnsetType = UNSET
    classIds: ClassIds | UnsetType = UNSET


class StaffView(msgspec.Struct, frozen=True):
    """``classIds``: the classes looked after. ``createdAt`` in epoch ms."""

    id: str
    userId: str
    name: str
    classIds: list[str]
    createdAt: int
