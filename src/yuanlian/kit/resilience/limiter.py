"""Rate limiting as the gateway and the login see it."""

from __future__ import annotations

from typing import Protocol

import msgspec


class Decision(msgspec.Struct, frozen=True):
    """``remaining`` requests may follow at once; ``reset`` and ``retry_after`` are seconds, rounded up."""

    allowed: bool
    limit: int
    remaining: int
    reset: int
    retry_after: int


class RateLimiter(Protocol):
    """GCRA (ITU-T I.371): a full burst of ``limit``, refilled evenly over ``window_ms``."""

    async def hit(self, key: str, limit: int, window_ms: int) -> Decision: ...

    def hit_at_once(self, key: str, limit: int, window_ms: int) -> Decision | None:
        """The same where nobody has to be waited for; None, and nothing is counted, where somebody has."""
        ...
