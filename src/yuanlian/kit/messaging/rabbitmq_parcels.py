"""A message as RabbitMQ carries it: on its way, to be tried again, and given up."""

from __future__ import annotations

import secrets
from binascii import crc32

import msgspec

from yuanlian.kit.messaging import rabbitmq_wire as wire
from yuanlian.kit.messaging.bus import MessageRefusedError
from yuanlian.kit.messaging.message import Message
from yuanlian.kit.messaging.rabbitmq_publisher import Parcel
from yuanlian.kit.messaging.rabbitmq_topology import dead, retry
from yuanlian.kit.messaging.repository import REASON_LENGTH

ATTEMPT = "x-attempt"
REASON = "x-reason"
ATTEMPTS = "x-attempts"
FAILED_AT = "x-failed-at"
NUMBER = "x-number"

BODY_MAX = 16 * 1024 * 1024 - 64 * 1024
"""RabbitMQ 4 takes at most 16 MiB by default, headers included, and closes the channel on more."""
_RANDOM_BITS = 20
_encode = msgspec.json.Encoder().encode


def addressed(exchange: str, routing_key: str, message: Message, *, wanted: bool) -> Parcel:
    """Raises:
    MessageRefusedError: it is too large, or has a name that is too long.
    """
    body = _encode(message)
    if len(body) > BODY_MAX:
        raise MessageRefusedError(message, f"{len(body)} bytes, at most {BODY_MAX} can be sent")
    try:
        wire.short(routing_key)
        properties = wire.properties(_headers(message), message.id, message.type, message.timestamp)
    except ValueError as error:
        raise MessageRefusedError(message, str(error)) from None
    return Parcel(exchange, routing_key, message.id, properties, body, wanted)


def retried(queue: str, message: Message, body: bytes, attempt: int, after_ms: int, why: str) -> Parcel:
    """To the queue that holds it for ``after_ms``. ``attempt``: failed deliveries so far."""
    headers = (*_headers(message), (ATTEMPT, str(attempt)), (REASON, why[:REASON_LENGTH]))
    return _same_body(retry(queue, after_ms // 1000), headers, message, message.id, body)


def dead_letter(
    queue: str, message: Message | None, id_: str, body: bytes, why: str, attempts: int, now_ms: int
) -> Parcel:
    """``message``: None when the body is none."""
    headers = (
        *(_headers(message) if message else ()),
        (REASON, why[:REASON_LENGTH]),
        (ATTEMPTS, str(attempts)),
        (FAILED_AT, str(now_ms)),
        (NUMBER, str(number(now_ms, secrets.randbits(_RANDOM_BITS)))),
    )
    return _same_body(dead(queue), headers, message, id_, body)


def number(at_ms: int, distinction: int) -> int:
    """Of a dead letter: later ones have larger numbers, and it fits into 63 bits until the year 2248."""
    return (at_ms << _RANDOM_BITS) + distinction


def number_of(at_ms: int, message_id: str) -> int:
    """Of one that RabbitMQ itself has put there: always the same."""
    return number(at_ms, crc32(message_id.encode()) & ((1 << _RANDOM_BITS) - 1))


def _same_body(queue: str, headers: wire.Headers, message: Message | None, id_: str, body: bytes) -> Parcel:
    id_, type_ = _clipped(id_), _clipped(message.type if message else "")
    timestamp = message.timestamp if message else 0
    return Parcel("", queue, id_, wire.properties(headers, id_, type_, timestamp), body)


def _headers(message: Message) -> tuple[tuple[str, str | None], ...]:
    return (
        ("tenantId", message.tenantId),
        ("userId", message.userId),
        ("requestId", message.requestId),
    )


def _clipped(text: str) -> str:
    """A stranger's message may have any id in its body; it must still be possible to bury it."""
    return text.encode()[: wire.SHORT].decode(errors="ignore")
