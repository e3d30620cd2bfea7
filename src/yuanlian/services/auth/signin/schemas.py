"""Signing in on the wire. CONTRACT §5. Times in epoch ms, ``expiresIn`` in seconds."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

Id = Annotated[str, Meta(min_length=1, max_length=64)]
Username = Annotated[str, Meta(min_length=1, max_length=64)]
# Longer than any accepted password, short enough to hash without harm.
Secret = Annotated[str, Meta(min_length=1, max_length=1024)]


class Login(msgspec.Struct, forbid_unknown_fields=True):
    username: Username
    password: Secret
    tenantId: Id | None = None


class Refresh(msgspec.Struct, forbid_unknown_fields=True):
    refreshToken: Annotated[str, Meta(min_length=1, max_length=256)]


class Switch(msgspec.Struct, forbid_unknown_fields=True):
    tenantId: Id


class PasswordChange(msgspec.Struct, forbid_unknown_fields=True):
    current: Secret
    next: Secret


class SignedInUser(msgspec.Struct, frozen=True):
    id: str
    name: str
    tenantId: str
    roles: list[str]
    permissions: list[str]


class MembershipView(msgspec.Struct, frozen=True):
    tenantId: str
    tenantName: str
    roles: list[str]


class Tokens(msgspec.Struct, frozen=True):
    accessToken: str
    refreshToken: str
    expiresIn: int
    user: SignedInUser


class LoginResult(msgspec.Struct, frozen=True):
    accessToken: str
    refreshToken: str
    expiresIn: int
    user: SignedInUser
    memberships: list[MembershipView]


class Me(msgspec.Struct, frozen=True):
    """``user`` is what the access token at hand grants."""

    user: SignedInUser
    memberships: list[MembershipView]


class SessionView(msgspec.Struct, frozen=True):
    """``current``: the session of the request itself."""

    id: str
    tenantId: str
    userAgent: str
    address: str
    createdAt: int
    lastUsedAt: int
    expiresAt: int
    current: bool


class Ended(msgspec.Struct, frozen=True):
    """How many sessions were ended."""

    ended: int
