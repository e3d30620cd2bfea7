"""A request body that is handed over while it arrives. Nothing of it is kept but what its reader has
not taken yet, and when that is enough the client has to wait."""

from __future__ import annotations

import asyncio
from typing import Protocol

STREAMED_FROM = 64 * 1024
"""Bytes up to which a body is gathered first. What is gathered can be sent again on a retry."""
_FULL = 64 * 1024
_PIECES = 64


class Flow(Protocol):
    """The connection that a body arrives on."""

    def body_wanted(self) -> None:
        """The reader has taken what there was: let the client send on."""
        ...


class StreamedBody:
    """Implements ``BodyStream``: fed by the intake, read by one upstream.

    ``length``: announced bytes, None when chunked. ``received``: bytes so far. ``complete``: the
    client has sent all. ``failure``: why it never will. ``answered``: the answer has begun, so that
    the client is not to be told to go on.
    """

    __slots__ = ("_flow", "_pieces", "_waiter", "_waiting", "answered", "complete", "failure", "length",
                 "received")  # fmt: skip

    def __init__(self, flow: Flow, length: int | None, begun: bytes) -> None:
        self._flow = flow
        self._pieces = [begun] if begun else []
        self._waiting = len(begun)
        self._waiter: asyncio.Future[None] | None = None
        self.length = length
        self.received = self._waiting
        self.complete = False
        self.failure: Exception | None = None
        self.answered = False

    async def read(self) -> bytes:
        while not self._pieces or self.failure is not None:
            if self.failure is not None:
                raise self.failure
            if self.complete:
                return b""
            self._waiter = asyncio.get_running_loop().create_future()
            self._flow.body_wanted()
            await self._waiter
        pieces, self._pieces = self._pieces, []
        was_full, self._waiting = self.full, 0
        if was_full:
            self._flow.body_wanted()
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    @property
    def full(self) -> bool:
        """As much waits to be taken as should."""
        return self._waiting >= _FULL

    def feed(self, piece: bytes) -> None:
        self._pieces.append(piece)
        if len(self._pieces) > _PIECES:
            self._pieces = [b"".join(self._pieces)]  # bytes in an object of their own weigh many times more
        self._waiting += len(piece)
        self.received += len(piece)
        self._wake()

    def end(self) -> None:
        self.complete = True
        self._wake()

    def fail(self, failure: Exception) -> None:
        """No more will come; the reader gets ``failure`` raised. The first one counts."""
        if not self.complete and self.failure is None:
            self.failure = failure
            self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


def is_complete(body: bytes | StreamedBody) -> bool:
    return isinstance(body, bytes) or body.complete


def size(body: bytes | StreamedBody) -> int:
    """Bytes received."""
    return len(body) if isinstance(body, bytes) else body.received
