"""Open connections keep the channels they were given; whose ties changed must ask again."""

from __future__ import annotations

from collections.abc import Iterable

from yuanlian.kit.realtime.hub import Realtime

FORBIDDEN = 4403
"""Close code of CONTRACT §7: what you may see has changed."""


async def reauthorise(realtime: Realtime, tenant_id: str, user_ids: Iterable[str]) -> None:
    """Closes the connections of these users. Call after the commit, or they would only be given
    the old channels again."""
    for user_id in sorted(set(user_ids)):
        await realtime.close_user(tenant_id, user_id, FORBIDDEN)
