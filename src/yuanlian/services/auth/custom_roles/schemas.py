"""Roles and permissions on the wire."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

# Conditions travel in every access token, which has 8 KiB for all of them.
Condition = Annotated[str, Meta(min_length=1, max_length=200)]
Word = Annotated[str, Meta(min_length=1, max_length=32)]
Name = Annotated[
    str, Meta(min_length=1, max_length=50, pattern=r"^[^\x00-\x1f\x7f]*\S[^\x00-\x1f\x7f]*$(?![\s\S])")
]


class PermissionIn(msgspec.Struct, forbid_unknown_fields=True):
    """``condition``: CEL over ``user``, ``resource``, ``action``, ``tenant``, ``now``."""

    resource: Word
    action: Word
    condition: Condition | None = None


Permissions = Annotated[list[PermissionIn], Meta(max_length=40)]


class NewRole(msgspec.Struct, forbid_unknown_fields=True):
    name: Name
    permissions: Permissions


class RoleChange(msgspec.Struct, forbid_unknown_fields=True):
    name: Name | UnsetType = UNSET
    permissions: Permissions | UnsetType = UNSET


class PermissionOut(msgspec.Struct, frozen=True):
    resource: str
    action: str
    condition: str | None


class RoleView(msgspec.Struct, frozen=True):
    """``builtIn`` roles cannot be changed."""

    id: str
    name: str
    builtIn: bool
    permissions: list[PermissionOut]


class PermissionView(msgspec.Struct, frozen=True):
    """``name`` as in access tokens; ``title`` for people; ``conditional``: whether a role may hold it
    under a condition."""

    name: str
    resource: str
    action: str
    title: str
    conditional: bool


class Deleted(msgspec.Struct, frozen=True):
    id: str
