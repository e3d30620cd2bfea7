"""What clients may say on ``/ws``. Source: specification "WebSocket实时通信", CONTRACT §7."""

from __future__ import annotations

from typing import Annotated

import msgspec

_Channel = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
_Cursor = Annotated[str, msgspec.Meta(max_length=64)]


class Auth(msgspec.Struct, frozen=True, tag="auth"):
    """The first frame. ``resume``: the cursor of the last message the client has seen."""

    token: str
    tenantId: str
    resume: _Cursor | None = None


class Subscribe(msgspec.Struct, frozen=True, tag="subscribe"):
    channel: _Channel


class Unsubscribe(msgspec.Struct, frozen=True, tag="unsubscribe"):
    channel: _Channel


class Ping(msgspec.Struct, frozen=True, tag="ping"):
    """``timestamp`` is the client's own and comes back as it is."""

    timestamp: int | float | None = None


ClientFrame = Auth | Subscribe | Unsubscribe | Ping

_decoder: msgspec.json.Decoder[ClientFrame] = msgspec.json.Decoder(ClientFrame)


def parse(message: bytes) -> ClientFrame:
    """One text message as a frame.

    Raises:
        ValueError: not JSON, not UTF-8, an unknown ``type``, or a field missing or of another type.
    """
    try:
        return _decoder.decode(message)
    except RecursionError:
        raise ValueError("nested too deeply") from None
