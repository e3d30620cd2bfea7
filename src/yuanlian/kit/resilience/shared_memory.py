"""Rate limiting in several processes of one machine, over a piece of memory that they share."""

from __future__ import annotations

import os
from hashlib import blake2b
from mmap import mmap
from struct import Struct

from yuanlian.kit.clock import Clock
from yuanlian.kit.resilience.limiter import Decision

SIZE = 16 * 1024 * 1024
"""Bytes, for a million keys; the system gives memory to what is used of them."""
KEY_BYTES = 16
_PLACES = 8
_BUCKET = Struct("=" + "Qd" * _PLACES)
"""Of each place: the key's fingerprint, 0 when it is free, and the theoretical arrival time."""
_PLACE = Struct("=Qd")
_ALMOST_ONE = 1 - 1e-9


class SharedMemoryRateLimiter:
    """GCRA as in ``MemoryRateLimiter``. ``descriptor``: of ``shared_memory()``, ``key``: the same secret in
    all processes, so that nobody can choose whom to collide with.

    A key lives in one of the eight places of its bucket, until it is forgotten for one of a fuller bucket:
    the one that would be free the soonest. Nobody waits for anybody: of two processes that let the same
    key pass at the same instant one may not be counted, which lets one request more pass.
    """

    def __init__(self, clock: Clock, descriptor: int, key: bytes) -> None:
        self._clock = clock
        self._memory = mmap(descriptor, SIZE)
        self._key = key
        self._buckets = SIZE // _BUCKET.size

    async def hit(self, key: str, limit: int, window_ms: int) -> Decision:
        return self.hit_at_once(key, limit, window_ms)

    def hit_at_once(self, key: str, limit: int, window_ms: int) -> Decision:
        digest = int.from_bytes(
            blake2b(key.encode("utf-8", "surrogatepass"), digest_size=16, key=self._key).digest(), "little"
        )
        fingerprint = (digest & 0xFFFF_FFFF_FFFF_FFFF) or 1
        offset = (digest >> 64) % self._buckets * _BUCKET.size
        bucket = _BUCKET.unpack_from(self._memory, offset)
        fingerprints, times = bucket[::2], bucket[1::2]
        if fingerprint in fingerprints:
            place = fingerprints.index(fingerprint)
            arrival = times[place]
        else:
            place = min(range(_PLACES), key=times.__getitem__)
            arrival = 0.0
        now = self._clock.now_ms()
        arrival = max(arrival, now)
        interval = window_ms / limit
        free = (now + window_ms - arrival) / interval  # requests that would be allowed at once
        if free < _ALMOST_ONE:
            return Decision(False, limit, 0, _seconds(arrival - now), _seconds((1 - free) * interval))
        arrival += interval
        _PLACE.pack_into(self._memory, offset + place * _PLACE.size, fingerprint, arrival)
        return Decision(True, limit, int(free - _ALMOST_ONE), _seconds(arrival - now), 0)

    def close(self) -> None:
        self._memory.close()


def shared_memory() -> int:
    """A descriptor of new, empty memory that processes started from here can inherit.

    Raises:
        OSError: there is no memory.
    """
    descriptor = os.memfd_create("yuanlian-rate-limits")
    os.ftruncate(descriptor, SIZE)
    return descriptor


def _seconds(ms: float) -> int:
    return -int(-ms // 1000)
