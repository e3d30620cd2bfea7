"""What a long run fires at a platform: good requests, damaged ones, odd JSON, the corpus, nonsense."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from random import Random
from typing import Any, NamedTuple

from tests.support.traffic import conversation, mutate

_PATHS = ("/api/tenant", "/api/auth", "/api/notifications", "/api/analytics", "/docs", "/api/none", "/ws")
_GOOD = (
    "/api/auth/me",
    "/api/tenant/classes?limit=5",
    "/api/tenant/students?limit=3",
    "/api/tenant/attendance/board?classId=class_sun_01",
    "/api/notifications/?limit=2",
    "/healthz",
)
_WRITES = (
    "/api/tenant/attendance/events",
    "/api/tenant/attendance/events/batch",
    "/api/tenant/classes",
    "/api/tenant/students",
    "/api/tenant/students/student_sun_001/guardians",
    "/api/notifications/announcements",
    "/api/auth/switch",
    "/api/auth/refresh",
)
_WORDS: tuple[Any, ...] = (
    "student_sun_001", "class_sun_01", "check_in", "absent", "", "\0", "\ud800", "\u202e", "x" * 2000,
    "2026-11-24", "../..", "' OR 1=1 --", 0, -1, 1.5, 1e308, 2**63, 2**200, True, None, [], {}, [[]],
)  # fmt: skip
_FIELDS = ("studentId", "type", "occurredAt", "items", "name", "classId", "title", "body", "audience",
           "by", "tenantId", "refreshToken", "eventId", "phone", "relation", "birthDate")  # fmt: skip
_HANDSHAKE = (
    b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


class Shot(NamedTuple):
    """``must``: the only status that a good request may have; 0: whatever is no 5xx."""

    kind: str
    data: bytes
    must: int = 0


def shots(rng: Random, token: str, corpus: Sequence[bytes]) -> Iterator[Shot]:
    """Without end."""
    while True:
        kind = rng.random()
        if kind < 0.3:
            target = rng.choice(_GOOD)
            yield Shot("good", _good(target, token), 200)
        elif kind < 0.5:
            data = b"".join(_good(rng.choice(_GOOD), token) for _ in range(rng.randint(1, 2)))
            for _ in range(rng.randint(1, 3)):
                data = mutate(rng, data)
            yield Shot("damaged", data)
        elif kind < 0.65:
            yield Shot("odd JSON", _write(rng, token))
        elif kind < 0.7:
            yield Shot("damaged JSON", mutate(rng, _write(rng, token)))
        elif kind < 0.9:
            yield Shot("conversation", conversation(rng, _PATHS))
        elif kind < 0.98:
            yield Shot("corpus", rng.choice(corpus))
        elif kind < 0.995:
            yield Shot("nonsense", rng.randbytes(rng.randint(1, 600)))
        else:
            yield Shot("WebSocket", _HANDSHAKE + rng.randbytes(rng.randint(0, 200)))


def _good(target: str, token: str) -> bytes:
    return f"GET {target} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\r\n".encode()


def _write(rng: Random, token: str) -> bytes:
    data = _odd(rng, 3)
    if rng.random() < 0.3:
        data = {
            "studentId": f"student_sun_{rng.randint(1, 300):03}",
            "type": rng.choice(("check_in", "leave")),
        }
    body = json.dumps({"data": data} if rng.random() < 0.9 else data).encode()
    if rng.random() < 0.05:
        body = b'{"data":' + b"[" * rng.choice((10, 1000, 20000))
    head = f"POST {rng.choice(_WRITES)} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def _odd(rng: Random, depth: int) -> Any:
    kind = rng.random()
    if depth and kind < 0.6:
        return {rng.choice(_FIELDS): _odd(rng, depth - 1) for _ in range(rng.randint(0, 5))}
    if depth and kind < 0.7:
        return [_odd(rng, depth - 1) for _ in range(rng.randint(0, 4))]
    return rng.choice(_WORDS)
