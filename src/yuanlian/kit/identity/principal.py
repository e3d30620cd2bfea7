"""Who is asking, in which kindergarten, with which permissions."""

from __future__ import annotations

import msgspec


class Principal(msgspec.Struct, frozen=True):
    """A verified caller. ``conditions`` maps a permission to CEL expressions, any of which suffices;
    a permission without an entry is held unconditionally. ``expires_at`` is epoch seconds.

    Source: specification "JWT令牌认证", "权限控制模型"; CONTRACT §5.
    """

    user_id: str
    tenant_id: str
    roles: tuple[str, ...] = ()
    permissions: frozenset[str] = frozenset()
    conditions: dict[str, tuple[str, ...]] = {}
    session_id: str = ""
    name: str = ""
    expires_at: int = 0

    @property
    def is_system(self) -> bool:
        """A part of the platform itself, not a person: ``system`` made it, no token can."""
        return self.user_id.startswith(_SYSTEM)

    def holds(self, permission: str) -> bool:
        """Whether the permission is granted at all, conditions aside."""
        return permission in self.permissions

    def holds_unconditionally(self, permission: str) -> bool:
        return permission in self.permissions and permission not in self.conditions


_SYSTEM = "system:"
"""No user's id begins like this: theirs are ``user_…``."""


def system(name: str, tenant_id: str) -> Principal:
    """A part of the platform that asks in its own name, such as ``gateway``."""
    return Principal(f"{_SYSTEM}{name}", tenant_id)
