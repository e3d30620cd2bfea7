"""Revocations told at once to every process, over Redis."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec
import structlog

from yuanlian.kit.channels import Channels
from yuanlian.kit.clock import Clock
from yuanlian.kit.identity.memory import MemoryRevocations
from yuanlian.kit.identity.principal import Principal
from yuanlian.kit.identity.revocation import Revocations, Revoked
from yuanlian.kit.redis import Redis, RedisAwayError

CHANNEL = "revoked"

_log = structlog.get_logger("identity")


class BroadcastRevocations:
    """Implements ``Revocations`` for whoever revokes: in memory, and said aloud. It is the quick way, not
    the sure one: that is the auth service's feed, which knows everything that is still in force."""

    def __init__(self, redis: Redis, clock: Clock) -> None:
        self._redis = redis
        self._known = MemoryRevocations(clock)

    async def revoke_session(self, session_id: str, expires_at: int) -> None:
        await self._known.revoke_session(session_id, expires_at)
        await self._say(Revoked(expires_at, session_id=session_id))

    async def revoke_member(self, tenant_id: str, user_id: str, issued_before: int) -> None:
        await self._known.revoke_member(tenant_id, user_id, issued_before)
        await self._say(Revoked(issued_before, tenant_id=tenant_id, user_id=user_id))

    def is_revoked(self, principal: Principal, issued_at: int) -> bool:
        return self._known.is_revoked(principal, issued_at)

    def on_revoked(self, listener: Callable[[str | None, str | None, str | None], None]) -> None:
        self._known.on_revoked(listener)

    async def _say(self, revoked: Revoked) -> None:
        try:
            await self._redis.execute("PUBLISH", CHANNEL, msgspec.json.encode(revoked))
        except RedisAwayError:
            _log.warning("a revocation goes by the feed alone: Redis is away")


def hear(channels: Channels, revocations: Revocations) -> None:
    """Enters what is said into ``revocations``, from now on."""
    entering: set[asyncio.Task[None]] = set()

    def heard(message: bytes) -> None:
        revoked = msgspec.json.decode(message, type=Revoked)
        task = asyncio.ensure_future(revoked.enter(revocations))
        entering.add(task)  # the loop itself would forget it
        task.add_done_callback(entering.discard)

    channels.listen(CHANNEL, heard)
