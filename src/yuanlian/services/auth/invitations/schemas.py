"""Invitations on the wire. Times in epoch ms."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta


class Acceptance(msgspec.Struct, forbid_unknown_fields=True):
    """``password``: the one that the kindergarten chose for the seat and handed over."""

    password: Annotated[str, Meta(min_length=1, max_length=1024)]


class InvitationView(msgspec.Struct, frozen=True):
    """``name``: what the kindergarten calls the person. ``roles``: what the seat has at the moment."""

    id: str
    tenantId: str
    tenantName: str
    name: str
    roles: list[str]
    invitedAt: int


class Declined(msgspec.Struct, frozen=True):
    id: str
