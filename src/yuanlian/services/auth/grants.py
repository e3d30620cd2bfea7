"""Permissions as roles give them, and whether one set of them covers another."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from yuanlian.kit.identity.principal import Principal


class Permission(NamedTuple):
    """``condition``: CEL, or None for "always"."""

    resource: str
    action: str
    condition: str | None = None

    @property
    def name(self) -> str:
        return f"{self.resource}.{self.action}"


@dataclass(frozen=True, slots=True)
class Grants:
    """What a principal carries: names, and the conditions of those held only under conditions."""

    permissions: frozenset[str] = frozenset()
    conditions: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def covers(self, wanted: Grants) -> bool:
        """Whether nothing in ``wanted`` goes beyond this.

        A condition is covered by holding the permission always, or under the very same condition;
        whether one expression implies another is not decided.
        """
        return wanted.permissions <= self.permissions and all(
            name not in self.conditions
            or (name in wanted.conditions and set(wanted.conditions[name]) <= set(self.conditions[name]))
            for name in wanted.permissions
        )


def combine(permissions: Iterable[Permission]) -> Grants:
    """All of them together; a permission held always by one role is held always."""
    conditions: dict[str, dict[str, None]] = {}
    always: set[str] = set()
    for permission in permissions:
        if permission.condition is None:
            always.add(permission.name)
        else:
            conditions.setdefault(permission.name, {})[permission.condition] = None
    return Grants(
        frozenset(always | conditions.keys()),
        {name: tuple(sources) for name, sources in sorted(conditions.items()) if name not in always},
    )


def held_by(principal: Principal) -> Grants:
    return Grants(principal.permissions, principal.conditions)
