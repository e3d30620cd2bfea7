"""A sink that keeps the whole answer, for callers inside the process."""

from __future__ import annotations

from collections.abc import Iterable

from yuanlian.gateway.http import Headers
from yuanlian.gateway.response import BrokenResponseError


class Collector:
    """Implements ``ResponseSink`` in memory."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: Headers = []
        self.finished = False
        self._chunks: list[bytes] = []

    @property
    def started(self) -> bool:
        return self.status != 0

    def start(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        if self.started:
            raise BrokenResponseError("a second start")
        self.status = status
        self.headers = list(headers)

    def push(self, chunk: bytes) -> None:
        if self.finished or not self.started:
            raise BrokenResponseError("a body outside a response")
        self._chunks.append(chunk)

    @property
    def ready(self) -> bool:
        return True

    async def drained(self) -> None:
        pass

    async def write(self, chunk: bytes) -> None:
        self.push(chunk)

    def finish(self, chunk: bytes = b"") -> None:
        self.push(chunk)
        self.finished = True

    def body(self) -> bytes:
        return b"".join(self._chunks)
