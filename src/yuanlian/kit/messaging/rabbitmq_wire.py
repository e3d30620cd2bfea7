"""The few AMQP 0-9-1 frames that carry messages, in and out.

Everything else (opening, declaring, consuming, heartbeats) is aiormq's. It makes several objects, a task
and two queue entries for every frame; for the frames of a message that is most of what a message costs
(decision record 0013). Source: AMQP 0-9-1 specification, 2.3 "Transport layer" and 4.2 "Protocol".
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from functools import lru_cache

METHOD, HEADER, BODY = 1, 2, 3
PUBLISH, RETURN, DELIVER = 0x003C_0028, 0x003C_0032, 0x003C_003C
ACK, NACK = 0x003C_0050, 0x003C_0078

FRAME_OVERHEAD = 8
FRAME_END = 0xCE
HEARTBEAT = b"\x08\x00\x00\x00\x00\x00\x00\xce"
SHORT = 255
"""The most bytes that a name, a message id or a routing key may have."""

FRAME = struct.Struct(">BHI")
_METHOD_FRAME = struct.Struct(">BHII")
_SETTLE_FRAME = struct.Struct(">BHIIQBB")
_CONTENT_FRAME = struct.Struct(">BHIHHQ")
_LONG = struct.Struct(">I")
_LONGLONG = struct.Struct(">Q")
_MANDATORY = b"\x01"
_END = b"\xce"

# content-type, headers, delivery-mode, message-id, timestamp, type; in this order.
_FLAGS = b"\xb0\xe0"
_CONTENT_TYPE = b"\x10application/json"
_PERSISTENT = b"\x02"

Headers = Iterable[tuple[str, str | None]]


def short(text: str) -> bytes:
    """Raises:
    ValueError: it is longer than such a string can be, or not Unicode text.
    """
    encoded = text.encode()
    if len(encoded) > SHORT:
        raise ValueError(f"longer than {SHORT} bytes: {text[:50]}…")
    return bytes((len(encoded),)) + encoded


def long_string(text: str) -> bytes:
    encoded = text.encode()
    return _LONG.pack(len(encoded)) + encoded


def table(headers: Headers) -> bytes:
    """Text fields only; those without a value are left out."""
    fields = b"".join(short(name) + b"S" + long_string(value) for name, value in headers if value is not None)
    return _LONG.pack(len(fields)) + fields


@lru_cache(1024)
def publish_frame(channel: int, exchange: str, routing_key: str) -> bytes:
    """``basic.publish``, mandatory: what no queue takes comes back."""
    arguments = b"\x00\x00" + short(exchange) + short(routing_key) + _MANDATORY
    return _METHOD_FRAME.pack(METHOD, channel, 4 + len(arguments), PUBLISH) + arguments + _END


def properties(headers: Headers, message_id: str, type_: str, timestamp_ms: int) -> bytes:
    """Of a persistent JSON message. AMQP keeps whole seconds."""
    return b"".join(
        (
            _FLAGS,
            _CONTENT_TYPE,
            table(headers),
            _PERSISTENT,
            short(message_id),
            _LONGLONG.pack(max(timestamp_ms, 0) // 1000),
            short(type_),
        )
    )


def content_frames(channel: int, properties_: bytes, body: bytes, body_max: int) -> list[bytes]:
    """The header frame and as many body frames as it takes, at most ``body_max`` bytes of body in each."""
    frames = [
        _CONTENT_FRAME.pack(HEADER, channel, 12 + len(properties_), 60, 0, len(body)) + properties_ + _END
    ]
    for start in range(0, len(body), body_max):
        part = body[start : start + body_max]
        frames += (FRAME.pack(BODY, channel, len(part)), part, _END)
    return frames


def ack_frame(channel: int, tag: int, *, multiple: bool) -> bytes:
    return _SETTLE_FRAME.pack(METHOD, channel, 13, ACK, tag, multiple, FRAME_END)


def requeue_frame(channel: int, tag: int) -> bytes:
    """``basic.nack`` of one delivery, which goes back to its queue."""
    return _SETTLE_FRAME.pack(METHOD, channel, 13, NACK, tag, 2, FRAME_END)


def settled(arguments: bytes) -> tuple[int, bool]:
    """Delivery tag and ``multiple`` of an ack or nack from the broker."""
    return _LONGLONG.unpack_from(arguments)[0], bool(arguments[8] & 1)


def delivery_tag(arguments: bytes) -> int:
    """Of ``basic.deliver``."""
    tag: int = _LONGLONG.unpack_from(arguments, 1 + arguments[0])[0]
    return tag


def body_size(header: bytes) -> int:
    """Of the payload of a header frame."""
    size: int = _LONGLONG.unpack_from(header, 4)[0]
    return size


def returned_from(arguments: bytes) -> tuple[str, str]:
    """Exchange and routing key of ``basic.return``."""
    reply_end = 3 + arguments[2]
    exchange_end = reply_end + 1 + arguments[reply_end]
    key_end = exchange_end + 1 + arguments[exchange_end]
    return arguments[reply_end + 1 : exchange_end].decode(), arguments[exchange_end + 1 : key_end].decode()
