"""What one client may ask of a listener. Issue 3, CONTRACT §4; what a body may have is its route's."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Bytes, counts and seconds that one connection is allowed."""

    head_bytes: int = 32 * 1024
    headers: int = 100
    target_bytes: int = 8 * 1024
    head_s: float = 10.0
    body_stall_s: float = 30.0
    idle_s: float = 60.0
    write_stall_s: float = 60.0
    linger_s: float = 2.0
    sweep_s: float = 1.0
    connections_per_address: int = 1000
