"""Revocations of one process."""

from __future__ import annotations

import heapq
from collections.abc import Callable

from yuanlian.kit.clock import Clock
from yuanlian.kit.identity.principal import Principal
from yuanlian.kit.identity.tokens import CLOCK_SKEW_S, LIFETIME_S

Listener = Callable[[str | None, str | None, str | None], None]
_Key = tuple[str, ...]


class MemoryRevocations:
    """``Revocations`` for the embedded platform. Entries are dropped once no token can be so old,
    which bounds the set by the revocations of one token lifetime. What is entered again is no news:
    listeners, who close connections, hear it once, however many ways it comes."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._sessions: dict[_Key, int] = {}
        self._members: dict[_Key, int] = {}
        self._expiry: list[tuple[int, _Key]] = []
        self._listeners: list[Listener] = []

    async def revoke_session(self, session_id: str, expires_at: int) -> None:
        key = (session_id,)
        if self._sessions.get(key, -1) >= expires_at:
            return
        self._sessions[key] = expires_at
        self._remember(expires_at, key)
        self._tell(session_id, None, None)

    async def revoke_member(self, tenant_id: str, user_id: str, issued_before: int) -> None:
        key = (tenant_id, user_id)
        if self._members.get(key, -1) >= issued_before:
            return
        self._members[key] = issued_before
        self._remember(issued_before + LIFETIME_S + CLOCK_SKEW_S, key)
        self._tell(None, tenant_id, user_id)

    def is_revoked(self, principal: Principal, issued_at: int) -> bool:
        if self._sessions and (principal.session_id,) in self._sessions:
            return True
        if not self._members:
            return False
        before = self._members.get((principal.tenant_id, principal.user_id))
        return before is not None and issued_at < before

    def on_revoked(self, listener: Listener) -> None:
        self._listeners.append(listener)

    def __len__(self) -> int:
        return len(self._sessions) + len(self._members)

    def _tell(self, session_id: str | None, tenant_id: str | None, user_id: str | None) -> None:
        for listener in self._listeners:
            listener(session_id, tenant_id, user_id)

    def _remember(self, until: int, key: _Key) -> None:
        heapq.heappush(self._expiry, (until, key))
        now = self._clock.now_ms() // 1000
        while self._expiry and self._expiry[0][0] < now:
            _, old = heapq.heappop(self._expiry)
            self._forget(old, now)

    def _forget(self, key: _Key, now: int) -> None:
        """Unless it was revoked again since, and that still counts."""
        if self._sessions.get(key, now) < now:
            del self._sessions[key]
        if self._members.get(key, now) + LIFETIME_S + CLOCK_SKEW_S < now:
            del self._members[key]
