"""How many tokens that are none an address may send. Each costs a signature check, and whoever makes
them up can make up any number.

Only failures draw from an address's budget. While it is used up, tokens that were never seen to be good
are refused unread; remembered ones pass, so that people behind the same address go on working. It fills
up again evenly, so that a newcomer there gets in between. Each process counts for itself."""

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

    def check(self, network: str) -> None:
        """Before a token is read.

        Raises:
            LimitReachedError: too many have failed.
        """
        if self._per_minute:
            decision = self._limiter.look(network, self._per_minute, _WINDOW_MS)
            if not decision.allowed:
                raise refusal(decision)

    def count(self, network: str) -> None:
        """One has failed."""
        if self._per_minute:
            self._limiter.hit_at_once(network, self._per_minute, _WINDOW_MS)
