"""Small writes that leave together at the end of a turn of the event loop.

A write wakes whoever reads at the other end. Written one by one, with the work for a request between any
two, each wakes its reader anew, which handles one request and falls asleep again: a context switch there,
an interrupt here, and caches that have gone cold whenever our code goes on. Written in a row, the first
one wakes the reader and the others find it awake. docs/decisions/0014.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

_SMALL = 16 * 1024
"""Bytes that may wait; more is written at once, so that whoever writes learns of a slow reader."""

Data = bytes | bytearray | memoryview


class Turn:
    """What is put off until the event loop has gone through what was ready, in order; shared by an owner's
    connections. Beside writes these are the requests of one round of reads: each phase of the work, done for
    all of them in a row, finds its code in the processor's caches. docs/decisions/0015."""

    __slots__ = ("waiting",)

    def __init__(self) -> None:
        self.waiting: list[Callable[[], None]] = []

    def add(self, call: Callable[[], None]) -> None:
        if not self.waiting:
            asyncio.get_running_loop().call_soon(self._end)
        self.waiting.append(call)

    def _end(self) -> None:
        waiting, self.waiting = self.waiting, []
        done = 0
        try:
            for call in waiting:
                done += 1
                call()
        finally:
            if done < len(waiting):  # one that failed does not hold up the others
                self.waiting = waiting[done:] + self.waiting
                asyncio.get_running_loop().call_soon(self._end)


class GatheringTransport(asyncio.Transport):
    """A transport that keeps small writes until the turn ends. Order is kept: whatever else is done with
    the transport, what waits is written first."""

    __slots__ = ("_pending", "_plain", "_turn")

    def __init__(self, plain: asyncio.Transport, turn: Turn) -> None:
        self._plain = plain
        self._turn = turn
        self._pending = b""

    def write(self, data: Data) -> None:
        pending = self._pending
        if len(pending) + len(data) > _SMALL:
            self.flush()
            self._plain.write(data)
        elif pending:
            self._pending = pending + data
        elif data:
            self._pending = bytes(data)
            self._turn.add(self.flush)

    def writelines(self, list_of_data: Iterable[Data]) -> None:
        self.write(b"".join(list_of_data))

    def flush(self) -> None:
        pending, self._pending = self._pending, b""
        if pending and not self._plain.is_closing():
            self._plain.write(pending)

    def release(self) -> asyncio.Transport:
        """The transport below, for somebody else; this one is not to be used any more."""
        self.flush()
        return self._plain

    def write_eof(self) -> None:
        self.flush()
        self._plain.write_eof()

    def close(self) -> None:
        self.flush()
        self._plain.close()

    def abort(self) -> None:
        self.flush()
        self._plain.abort()

    def can_write_eof(self) -> bool:
        return self._plain.can_write_eof()

    def is_closing(self) -> bool:
        return self._plain.is_closing()

    def is_reading(self) -> bool:
        return self._plain.is_reading()

    def pause_reading(self) -> None:
        self._plain.pause_reading()

    def resume_reading(self) -> None:
        self._plain.resume_reading()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._plain.set_write_buffer_limits(high, low)

    def get_write_buffer_size(self) -> int:
        return len(self._pending) + self._plain.get_write_buffer_size()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._plain.get_extra_info(name, default)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._plain.set_protocol(protocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._plain.get_protocol()
