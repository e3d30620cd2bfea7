"""A proxy before RabbitMQ that ends a connection after as many frames from the broker as a test wants."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections import deque
from typing import Literal

End = Literal["told", "ended", "reset"]
"""``told``: with Connection.Close first, as the broker does when somebody closes connections by force."""
_HEADER = struct.Struct(">BHI")
_FORCED = struct.pack(">HHH", 10, 50, 320) + bytes((17,)) + b"CONNECTION_FORCED" + struct.pack(">HH", 0, 0)
_CLOSE = _HEADER.pack(1, 0, len(_FORCED)) + _FORCED + b"\xce"
CLOSE_OK_S = 0.02
"""For so long one who was told may answer before the connection goes."""


class ClosingProxy:
    """``ends``: after how many frames, and how, the next connections end; those after them do not."""

    def __init__(self, broker_port: int) -> None:
        self._broker_port = broker_port
        self._conversations: set[asyncio.Task[None]] = set()
        self.ends: deque[tuple[int, End]] = deque()

    async def start(self) -> int:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    def cut(self) -> None:
        """Ends every connection there is."""
        for conversation in self._conversations:
            conversation.cancel()

    async def close(self) -> None:
        self._server.close()
        self.cut()
        await asyncio.gather(*self._conversations, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        conversation = asyncio.ensure_future(self._converse(reader, writer))
        self._conversations.add(conversation)
        conversation.add_done_callback(self._conversations.discard)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        frames, end = self.ends.popleft() if self.ends else (None, None)
        answers, broker = await asyncio.open_connection("127.0.0.1", self._broker_port)
        questions = asyncio.ensure_future(_copy(reader, broker))
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                while frames is None or frames > 0:
                    header = await answers.readexactly(_HEADER.size)
                    writer.write(header + await answers.readexactly(_HEADER.unpack(header)[2] + 1))
                    frames = frames and frames - 1
                if end == "told":
                    writer.write(_CLOSE)
                    await asyncio.sleep(CLOSE_OK_S)
                if end == "reset":
                    writer.transport.abort()
        finally:
            questions.cancel()
            writer.close()
            broker.transport.abort()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
