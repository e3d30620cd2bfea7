"""Rate limiting in one process."""

from __future__ import annotations

from yuanlian.kit.clock import Clock
from yuanlian.kit.resilience.limiter import Decision

_KEYS_PER_GENERATION = 100_000
_ALMOST_ONE = 1 - 1e-9


class MemoryRateLimiter:
    """GCRA: per key one number, the theoretical arrival time (TAT) of the next request.

    Memory is bounded by two generations of keys. When the younger is full it becomes the older, and
    the older is forgotten: a key is lost only after that many others were seen since its last use,
    and a lost key starts again with a full burst.
    """

    def __init__(self, clock: Clock, keys_per_generation: int = _KEYS_PER_GENERATION) -> None:
        self._clock = clock
        self._capacity = keys_per_generation
        self._young: dict[str, float] = {}
        self._old: dict[str, float] = {}

    async def hit(self, key: str, limit: int, window_ms: int) -> Decision:
        return self.hit_at_once(key, limit, window_ms)

    def hit_at_once(self, key: str, limit: int, window_ms: int) -> Decision:
        now = self._clock.now_ms()
        young = self._young
        interval = window_ms / limit
        tat = young.get(key) or self._old.get(key, 0.0)
        if tat < now:
            tat = now
        free = (now + window_ms - tat) / interval  # requests that would be allowed at once
        if free < _ALMOST_ONE:
            if key not in young:
                self._keep(key, tat)  # being refused is a use, too
            wait = (1 - free) * interval
            return Decision(False, limit, 0, _seconds(tat - now), _seconds(wait))
        tat += interval
        if key in young:
            young[key] = tat
        else:
            self._keep(key, tat)
        return Decision(True, limit, int(free - _ALMOST_ONE), -int((now - tat) // 1000), 0)

    def _keep(self, key: str, tat: float) -> None:
        """A key that is not among the young ones becomes one."""
        if len(self._young) >= self._capacity:
            self._old, self._young = self._young, {}
        self._young[key] = tat

    def __len__(self) -> int:
        return len(self._young.keys() | self._old.keys())


def _seconds(ms: float) -> int:
    return -int(-ms // 1000)
