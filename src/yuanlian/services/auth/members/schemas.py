"""Users of a kindergarten on the wire. Times in epoch ms."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

Id = Annotated[str, Meta(min_length=1, max_length=64)]
# ``$`` alone also matches before a last line feed, in Python, and that would end an e-mail's header.
_END = r"$(?![\s\S])"
# No control characters, not only blanks: a name stands in lists and in the subject of e-mails.
Name = Annotated[
    str, Meta(min_length=1, max_length=50, pattern=r"^[^\x00-\x1f\x7f]*\S[^\x00-\x1f\x7f]*" + _END)
]
Phone = Annotated[str, Meta(max_length=32, pattern=r"^(1\d{10}|\+[1-9]\d{6,14})" + _END)]
Email = Annotated[
    str, Meta(max_length=254, pattern=r"^[^\s@<>,;:\"]{1,64}@[A-Za-z0-9.-]+\.[A-Za-z]{2,63}" + _END)
]
# Its rules are the service's, so that a person hears about them in words.
Password = Annotated[str, Meta(min_length=1, max_length=1024)]
Roles = Annotated[list[Id], Meta(min_length=1, max_length=10)]
Status = Literal["active", "suspended"]
Seated = Literal["invited", "active", "suspended"]


class NewUser(msgspec.Struct, forbid_unknown_fields=True):
    """``password``: what the person shows to take the seat. Who has no account yet signs in with it;
    who has one keeps their own password, and accepts the invitation with this one.
    ``tenantId``: for the platform's operators only, to seat a principal in a kindergarten."""

    username: Annotated[str, Meta(min_length=1, max_length=64)]
    name: Name
    roles: Roles
    password: Password
    phone: Phone | None = None
    email: Email | None = None
    tenantId: Id | None = None


class UserChange(msgspec.Struct, forbid_unknown_fields=True):
    """Absent fields stay; null takes a phone or an e-mail address away. ``password`` resets it; that of
    a seat still ``invited`` is the one to take it with."""

    name: Name | UnsetType = UNSET
    phone: Phone | UnsetType | None = UNSET
    email: Email | UnsetType | None = UNSET
    roles: Roles | UnsetType = UNSET
    status: Status | UnsetType = UNSET
    password: Password | UnsetType = UNSET


class UserView(msgspec.Struct, frozen=True):
    """A user as this kindergarten knows them. ``invited``: the person has not taken the seat yet."""

    id: str
    username: str
    name: str
    phone: str | None
    email: str | None
    roles: list[str]
    status: Seated
    lastUsedAt: int | None
    createdAt: int


class Removed(msgspec.Struct, frozen=True):
    id: str
