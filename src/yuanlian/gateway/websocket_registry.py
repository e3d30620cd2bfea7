"""Which sessions are open, by what can end them: a signed-in session, a member, a tenant."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING

from yuanlian.kit.identity.principal import Principal

if TYPE_CHECKING:
    from yuanlian.gateway.websocket_session import WebSocketSession


class SessionRegistry:
    """Every session with a verified token, from the moment it is verified: a revocation that comes
    while the rest of its admission is under way finds it here."""

    def __init__(self) -> None:
        self._by_key: dict[Hashable, set[WebSocketSession]] = {}

    def add(self, session: WebSocketSession, principal: Principal) -> None:
        for key in _keys(principal):
            self._by_key.setdefault(key, set()).add(session)

    def remove(self, session: WebSocketSession, principal: Principal) -> None:
        for key in _keys(principal):
            sessions = self._by_key.get(key)
            if sessions is not None:
                sessions.discard(session)
                if not sessions:
                    del self._by_key[key]

    def of_sign_in(self, session_id: str) -> list[WebSocketSession]:
        """The sessions whose token carries this ``sid``."""
        return list(self._by_key.get(("sign-in", session_id), ()))

    def of_member(self, tenant_id: str, user_id: str) -> list[WebSocketSession]:
        return list(self._by_key.get(("member", tenant_id, user_id), ()))

    def of_tenant(self, tenant_id: str) -> list[WebSocketSession]:
        return list(self._by_key.get(("tenant", tenant_id), ()))


def _keys(principal: Principal) -> tuple[Hashable, ...]:
    return (
        ("sign-in", principal.session_id),
        ("member", principal.tenant_id, principal.user_id),
        ("tenant", principal.tenant_id),
    )
