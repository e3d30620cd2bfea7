"""What the edge and every service need to know about a tenant."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol

import msgspec

TenantStatus = Literal["active", "suspended"]
Isolation = Literal["shared", "schema", "database"]
DEFAULT_ZONE = "Asia/Shanghai"
"""IANA name; of a tenant that says nothing else."""


class Tenant(msgspec.Struct, frozen=True):
    id: str
    name: str
    domain: str | None = None
    status: TenantStatus = "active"
    isolation: Isolation = "shared"
    time_zone: str = DEFAULT_ZONE


class TenantDirectory(Protocol):
    """Looks tenants up by id or domain. Answers may be cached; a change is visible after
    ``changed`` listeners were called, at once in this process."""

    async def find(self, tenant_id: str) -> Tenant | None: ...

    def at_hand(self, tenant_id: str) -> Tenant | None:
        """The tenant if it is known without I/O; None says nothing. Asked on every request."""
        ...

    async def find_by_domain(self, domain: str) -> Tenant | None:
        """``domain`` is a lower-case host name without port, or its first label."""
        ...

    def on_change(self, listener: Callable[[Tenant], None]) -> None:
        """Calls ``listener`` with the new state whenever a tenant changes."""
        ...
