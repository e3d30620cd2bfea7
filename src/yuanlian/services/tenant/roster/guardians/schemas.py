"""Guardians on the wire. CONTRACT §6."""

from __future__ import annotations

import msgspec
from msgspec import UNSET, UnsetType

from yuanlian.services.tenant.wire import EmailText, Id, PhoneText, ShortText


class NewGuardian(msgspec.Struct, forbid_unknown_fields=True):
    """Either ``userId`` (somebody who can sign in; name, phone and e-mail come from there), or ``name``
    and ``phone``."""

    relation: ShortText
    userId: Id | None = None
    name: ShortText | None = None
    phone: PhoneText | None = None
    email: EmailText | None = None
    canPickUp: bool = True
    receivesNotices: bool = True


class GuardianshipChange(msgspec.Struct, forbid_unknown_fields=True):
    """Absent fields stay."""

    relation: ShortText | UnsetType = UNSET
    canPickUp: bool | UnsetType = UNSET
    receivesNotices: bool | UnsetType = UNSET


class GuardianView(msgspec.Struct, frozen=True):
    """A guardian of one child; ``id`` is the person's, the same for brothers and sisters."""

    id: str
    userId: str | None
    name: str
    phone: str | None
    email: str | None
    relation: str
    canPickUp: bool
    receivesNotices: bool
