"""Access tokens end before their time: logout, kicked sessions, changed roles."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from yuanlian.kit.identity.principal import Principal


class Revocations(Protocol):
    """A shared set of what no longer counts, kept as long as the longest access token.

    ``is_revoked`` is asked on every request: in memory, no I/O. Listeners are called in every
    process that shares the set, within a second of the change.
    """

    async def revoke_session(self, session_id: str, expires_at: int) -> None:
        """Tokens of this session are refused from now on. ``expires_at``: epoch seconds after
        which none of them can be valid anyway."""
        ...

    async def revoke_member(self, tenant_id: str, user_id: str, issued_before: int) -> None:
        """Tokens of this user in this tenant issued before that epoch second are refused."""
        ...

    def is_revoked(self, principal: Principal, issued_at: int) -> bool: ...

    def on_revoked(self, listener: Callable[[str | None, str | None, str | None], None]) -> None:
        """``listener(session_id, tenant_id, user_id)``; the parts that do not apply are None."""
        ...
