"""Opaque ids: a prefix and a UUIDv7 (RFC 9562 §5.7), so that they sort by creation."""

from __future__ import annotations

import os
import struct
import time
from collections import deque

_BATCH = struct.Struct("<512Q")
# Asking the system for each id would release the interpreter each time, and a thread that does so
# waits for its turn behind the others: randomness is fetched for 512 ids at once.
_tails: deque[int] = deque()
_digits: deque[str] = deque()
os.register_at_fork(after_in_child=_tails.clear)
os.register_at_fork(after_in_child=_digits.clear)
_last_ms = 0
_sequence = 0


def uuid7_hex() -> str:
    """32 hex digits; strictly increasing within a thread (method 1 of RFC 9562 §6.2)."""
    global _last_ms, _sequence
    now = time.time_ns() // 1_000_000
    tail = _random64()
    if now > _last_ms:
        _last_ms, _sequence = now, _random64() & 0x1FF
    else:
        _sequence += 1
        if _sequence > 0xFFF:
            _last_ms, _sequence = _last_ms + 1, 0
    value = _last_ms << 80 | 0x7 << 76 | _sequence << 64 | 0x2 << 62 | tail & 0x3FFF_FFFF_FFFF_FFFF
    return f"{value:032x}"


def new_id(prefix: str) -> str:
    """``new_id("student")`` → ``student_0192…`` (prefix, underscore, 32 hex digits)."""
    return f"{prefix}_{uuid7_hex()}"


def _random64() -> int:
    while True:
        try:
            return _tails.pop()  # one thread gets it: no lock is needed
        except IndexError:
            _tails.extend(_BATCH.unpack(os.urandom(_BATCH.size)))


def random_digits() -> str:
    """48 random hex digits from the system's source: enough for a trace and a span."""
    while True:
        try:
            return _digits.pop()
        except IndexError:
            digits = os.urandom(24 * 256).hex()
            _digits.extend([digits[i : i + 48] for i in range(0, len(digits), 48)])
