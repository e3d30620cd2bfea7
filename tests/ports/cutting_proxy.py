"""A proxy before a MySQL server that cuts a connection at a statement of the test's choice."""

from __future__ import annotations

import asyncio
from typing import Literal

Cut = Literal["before", "after"]


class CuttingProxy:
    """The next statement that has ``at`` in it is cut: ``before`` the server hears it, or ``after``
    the server has answered, which the client then does not hear. Each cut happens once."""

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
        self._cut: tuple[bytes, Cut] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self.cuts = 0

    async def start(self) -> int:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    def cut(self, at: bytes, when: Cut) -> None:
        self._cut = at, when

    async def close(self) -> None:
        self._server.close()
        for writer in self._writers:
            writer.close()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_connection("127.0.0.1", self._server_port)
        pair = (writer, to_server)
        self._writers.update(pair)
        deaf = asyncio.Event()
        task = asyncio.create_task(self._answers(from_server, writer, deaf, pair))
        self._tasks.add(task)
        while data := await _read(reader):
            if self._cut is not None and self._cut[0] in data:
                when, self._cut = self._cut[1], None
                self.cuts += 1
                if when == "before":
                    break
                deaf.set()
            to_server.write(data)
        if not deaf.is_set():
            _close(pair)

    async def _answers(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        deaf: asyncio.Event,
        pair: tuple[asyncio.StreamWriter, asyncio.StreamWriter],
    ) -> None:
        while data := await _read(reader):
            if deaf.is_set():
                break
            writer.write(data)
        _close(pair)


async def _read(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read(65536)
    except ConnectionError:
        return b""


def _close(pair: tuple[asyncio.StreamWriter, asyncio.StreamWriter]) -> None:
    for writer in pair:
        writer.close()
