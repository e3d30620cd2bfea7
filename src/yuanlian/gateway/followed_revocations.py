"""What the auth service revoked, as a gateway in another process knows it."""

from __future__ import annotations

from collections.abc import Callable

from yuanlian.contracts.auth import REVOCATIONS_PATH, SERVICE
from yuanlian.gateway.feed_follower import FeedFollower
from yuanlian.kit.clock import Clock
from yuanlian.kit.errors import ServiceUnavailableError
from yuanlian.kit.feed import Changes
from yuanlian.kit.http.client import ServiceClient
from yuanlian.kit.identity.memory import MemoryRevocations
from yuanlian.kit.identity.principal import Principal
from yuanlian.kit.identity.revocation import Revoked


class StaleError(Exception):
    """What is known is too old to be relied on."""


class FollowedRevocations:
    """Implements ``Revocations``.

    While the feed is away, the last known set counts for ``grace_s`` seconds; then, and before the
    feed was ever heard, nobody's token is accepted: ``is_revoked`` raises ``ServiceUnavailableError``.
    """

    def __init__(self, client: ServiceClient, clock: Clock, grace_s: float) -> None:
        self._known = MemoryRevocations(clock)
        self._grace_s = grace_s
        self.feed: FeedFollower[Revoked] = FeedFollower(
            client, SERVICE, REVOCATIONS_PATH, Changes[Revoked], self._enter
        )

    async def revoke_session(self, session_id: str, expires_at: int) -> None:
        """In this process only; revoking for all is the auth service's."""
        await self._known.revoke_session(session_id, expires_at)

    async def revoke_member(self, tenant_id: str, user_id: str, issued_before: int) -> None:
        """In this process only; revoking for all is the auth service's."""
        await self._known.revoke_member(tenant_id, user_id, issued_before)

    def is_revoked(self, principal: Principal, issued_at: int) -> bool:
        age = self.feed.age_s
        if age is None or age > self._grace_s:
            raise ServiceUnavailableError
        return self._known.is_revoked(principal, issued_at)

    def on_revoked(self, listener: Callable[[str | None, str | None, str | None], None]) -> None:
        self._known.on_revoked(listener)

    async def check(self) -> str:
        """A health check: the age of what is known. Raises once tokens are refused for it."""
        age = self.feed.age_s
        if age is None:
            raise StaleError("never heard of the auth service: tokens are refused until then")
        told = f"known as of {age:.1f} s ago"
        if age > self._grace_s:
            raise StaleError(f"{told}: tokens are refused after {self._grace_s:g} s")
        return told

    async def _enter(self, changes: Changes[Revoked]) -> None:
        """The feed tells again what is recent: the known set takes it for no news."""
        for entry in changes.items:
            await entry.enter(self._known)
