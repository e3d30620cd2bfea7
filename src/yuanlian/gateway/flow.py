"""The two directions of a connection, each stopped when somebody is too slow."""

from __future__ import annotations

import asyncio
import math

from yuanlian.gateway.gathering import GatheringTransport


class FlowControl(asyncio.Protocol):
    """``transport``: None before the connection and after it. ``write_deadline``: on the event loop's clock,
    when patience with a peer that does not read ends, ``write_stall_s`` after it stopped."""

    __slots__ = ("_drained", "_paused", "_write_stall_s", "transport", "write_deadline")

    def __init__(self, write_stall_s: float = math.inf) -> None:
        self._write_stall_s = write_stall_s
        self._drained: asyncio.Future[None] | None = None
        self._paused = False
        self.write_deadline = math.inf
        self.transport: GatheringTransport | None = None

    def pause_writing(self) -> None:
        loop = asyncio.get_running_loop()
        self._drained = self._drained or loop.create_future()
        self.write_deadline = loop.time() + self._write_stall_s

    def resume_writing(self) -> None:
        if self._drained is not None:
            self._drained.set_result(None)
            self._drained = None
            self.write_deadline = math.inf

    @property
    def writing_paused(self) -> bool:
        return self._drained is not None

    async def writable(self) -> None:
        if self._drained is not None:
            await asyncio.shield(self._drained)

    def _pause_reading(self, pause: bool) -> None:
        if pause is self._paused or self.transport is None:
            return
        self._paused = pause
        if pause:
            self.transport.pause_reading()
        else:
            self.transport.resume_reading()
