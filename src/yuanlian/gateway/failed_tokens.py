"""How many tokens that are none an address may send, before it is told to slow down.

Only failures draw from an address's budget, and only failures are refused for it: a good token passes
always, for many people share an address, and one of them must not lock the others out. Each process counts
for itself."""

from __future__ import annotations

from yuanlian.gateway.rate_limit import refusal
from yuanlian.kit.clock import Clock
from yuanlian.kit.resilience.memory import MemoryRateLimiter

PER_MINUTE = 300
_WINDOW_MS = 60_000


class FailedTokens:
    """``per_minute``: for one address, at most; 0 sets no limit."""

    def __init__(self, clock: Clock, per_minute: int = PER_MINUTE) -> None:
        self._limiter = MemoryRateLimiter(clock)
        self._per_minute = per_minute

    def count(self, network: str) -> None:
        """One has failed.

        Raises:
            LimitReachedError: too many have.
        """
        if self._per_minute:
            decision = self._limiter.hit_at_once(network, self._per_minute, _WINDOW_MS)
            if not decision.allowed:
                raise refusal(decision)
