"""Opaque ids: a prefix and a UUIDv7 (RFC 9562 §5.7), so that they sort by creation."""

from __future__ import annotations

import os
import time

_random = os.urandom
_last_ms = 0
_sequence = 0


def uuid7_hex() -> str:
    """32 hex digits; strictly increasing within a process (method 1 of RFC 9562 §6.2)."""
    global _last_ms, _sequence
    now = time.time_ns() // 1_000_000
    if now > _last_ms:
        _last_ms, _sequence = now, int.from_bytes(_random(2), "big") & 0x1FF
    else:
        _sequence += 1
        if _sequence > 0xFFF:
            _last_ms, _sequence = _last_ms + 1, 0
    tail = int.from_bytes(_random(8), "big") & 0x3FFF_FFFF_FFFF_FFFF
    value = _last_ms << 80 | 0x7 << 76 | _sequence << 64 | 0x2 << 62 | tail
    return f"{value:032x}"


def new_id(prefix: str) -> str:
    """``new_id("student")`` → ``student_0192…`` (prefix, underscore, 32 hex digits)."""
    return f"{prefix}_{uuid7_hex()}"
