"""What one WebSocket may cost us, and the codes it is closed with."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class CloseCode(IntEnum):
    """RFC 6455 §7.4.1 below 4000; CONTRACT §7 from there."""

    GOING_AWAY = 1001
    POLICY_VIOLATION = 1008
    INTERNAL_ERROR = 1011
    TRY_AGAIN_LATER = 1013
    UNAUTHENTICATED = 4401
    FORBIDDEN = 4403
    TOO_SLOW = 4408
    TOO_MANY = 4429


@dataclass(frozen=True, slots=True)
class WebSocketLimits:
    """Times in seconds, sizes in bytes. ``frames_per_s`` and ``frame_burst`` count every incoming
    frame, control frames and fragments included. ``max_buffered`` is what may wait for a slow
    reader beyond the kernel's own buffer; a replay of a tenant's whole history must fit in it.
    """

    auth_timeout_s: float = 5.0
    keepalive_s: float = 30.0
    missed_pings: int = 2
    close_timeout_s: float = 5.0
    max_message: int = 64 * 1024
    max_buffered: int = 512 * 1024
    max_malformed: int = 10
    frames_per_s: float = 20.0
    frame_burst: int = 60
    max_channels: int = 256
    connections_per_user: int = 20
    max_connections: int = 50_000
