"""Two connections joined: what one says, the other hears, no faster than it reads."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

_EARLY = 64 * 1024


class End(asyncio.Protocol):
    """One end of a tunnel. Until it is joined it keeps what it hears, ``_EARLY`` bytes and what comes in
    one more read. Implements ``WriteGate``. ``heard``: bytes so far. ``last``: when, on the loop's
    clock. ``paused_at``: when it began to read more slowly than we write. ``lost`` is called once."""

    __slots__ = ("_drained", "_early", "_loop", "_lost", "_other", "heard", "last", "paused_at",
                 "transport")  # fmt: skip

    def __init__(self, transport: asyncio.Transport, early: bytes, lost: Callable[[], None]) -> None:
        self.transport: asyncio.Transport | None = transport
        self._loop = asyncio.get_running_loop()
        self._early = bytearray(early)
        self._lost = lost
        self._other: End | None = None
        self._drained: asyncio.Future[None] | None = None
        self.heard = len(early)
        self.last = self._loop.time()
        self.paused_at = math.inf

    def join(self, other: End) -> None:
        """To be done for both ends."""
        self._other = other
        early, self._early = bytes(self._early), bytearray()
        if early:
            other.say(early)
        if not other.writing_paused:
            self.listen(True)

    def say(self, data: bytes) -> None:
        if self.transport is not None:
            self.transport.write(data)

    def listen(self, go_on: bool) -> None:
        transport = self.transport
        if transport is None or transport.is_closing():
            return
        if go_on:
            transport.resume_reading()
        else:
            transport.pause_reading()

    def close(self) -> None:
        """What was said still goes out."""
        if self.transport is not None:
            self.transport.close()

    def abort(self) -> None:
        if self.transport is not None:
            self.transport.abort()

    @property
    def writing_paused(self) -> bool:
        return self._drained is not None

    async def writable(self) -> None:
        if self._drained is not None:
            await asyncio.shield(self._drained)

    # --- asyncio.Protocol ---------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        self.heard += len(data)
        self.last = self._loop.time()
        if self._other is not None:
            self._other.say(data)
            return
        self._early += data
        if len(self._early) > _EARLY:
            self.listen(False)

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        del exc  # whatever it was, it is over
        self.transport = None
        self.resume_writing()
        self._lost()

    def pause_writing(self) -> None:
        if self._drained is None:
            self._drained = self._loop.create_future()
            self.paused_at = self._loop.time()
        if self._other is not None:
            self._other.listen(False)

    def resume_writing(self) -> None:
        if self._drained is None:
            return
        self._drained.set_result(None)
        self._drained = None
        self.paused_at = math.inf
        if self._other is not None:
            self._other.listen(True)
