"""Server messages as WebSocket frames, encoded once for all who receive them."""

from __future__ import annotations

from typing import Any

import msgspec
from websockets.frames import Frame, Opcode

_encoder = msgspec.json.Encoder()


def text_frame(message: dict[str, Any]) -> bytes:
    """One unfragmented, unmasked text frame (RFC 6455 §5.2) with ``message`` as JSON.

    Raises:
        TypeError: something in ``message`` has no JSON form.
    """
    return Frame(Opcode.TEXT, _encoder.encode(message)).serialize(mask=False)
