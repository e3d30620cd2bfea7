"""Servers that take a connection and never say a word, or let every word wait."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager


@contextmanager
def silent(count: int) -> Iterator[list[int]]:
    """The ports. Whoever connects is let in by the system, and nobody reads what he says."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        yield [one.getsockname()[1] for one in sockets]


@asynccontextmanager
async def slowly(server_port: int, delay_s: float) -> AsyncIterator[int]:
    """The port of a way to a server on this machine, whose answers come ``delay_s`` later."""

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, after_s: float) -> None:
        while data := await reader.read(65536):
            await asyncio.sleep(after_s)
            writer.write(data)
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_connection("127.0.0.1", server_port)
        await asyncio.gather(pass_on(reader, to_server, 0), pass_on(from_server, writer, delay_s))

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as listening:
        yield listening.sockets[0].getsockname()[1]
