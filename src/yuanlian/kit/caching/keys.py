"""``{service}:{tenant_id}:{resource}:{id}:{version}``, ``common:{resource}:{id}:{version}``. CONTRACT §9."""

from __future__ import annotations

import re

SHARED = "common"
_SPECIAL = re.compile(r"[%:{}]")


def escaped(part: str) -> str:
    """One segment: ``:`` separates segments, and braces would choose the slot of a cluster."""
    return _SPECIAL.sub(lambda found: f"%{ord(found[0]):02X}", part)


def prefix(service: str, resource: str, tenant_id: str | None) -> str:
    """What the keys of one tenant's resource begin with; ``tenant_id`` None: it belongs to no tenant."""
    if tenant_id is None:
        return f"{SHARED}:{escaped(resource)}"
    return f"{escaped(service)}:{escaped(tenant_id)}:{escaped(resource)}"
