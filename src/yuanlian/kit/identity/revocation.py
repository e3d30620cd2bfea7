"""Access tokens end before their time: logout, kicked sessions, changed roles."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import msgspec

from yuanlian.kit.identity.principal import Principal


class Revoked(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """One revocation on its way to other processes: of a session, or of a member. ``at``: what
    ``revoke_session`` calls ``expires_at``, ``revoke_member`` ``issued_before``; epoch seconds."""

    at: int
    session_id: str | None = None
    tenant_id: str | None = None
    user_id: str | None = None

    async def enter(self, revocations: Revocations) -> None:
        if self.session_id is not None:
            await revocations.revoke_session(self.session_id, self.at)
        elif self.tenant_id is not None and self.user_id is not None:
            await revocations.revoke_member(self.tenant_id, self.user_id, self.at)


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
