"""What the auth service tells other parts of the platform about who belongs where."""

from __future__ import annotations

import msgspec

SERVICE = "auth-service"
REVOCATIONS_PATH = "/internal/auth/revocations"
"""``GET ?after=CURSOR``, for gateways: what was revoked since → ``kit.feed.Changes`` of
``kit.identity.revocation.Revoked``; waits ``kit.feed.WAIT_S`` for news."""
MEMBER_REMOVED = "member.removed"


class MemberRemoved(msgspec.Struct, frozen=True):
    """A user is no member of the message's tenant any more. Whatever ties that user there ends;
    should they come back, it is as a newcomer."""

    userId: str
