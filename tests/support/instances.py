"""Instances of a service for the gateway to talk to: raw ones in this process, real ones as processes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import NamedTuple

from yuanlian.gateway.response import BrokenResponseError
from yuanlian.gateway.upstreams.discovery import FixedInstances
from yuanlian.gateway.upstreams.http import HttpOptions, HttpUpstream
from yuanlian.gateway.upstreams.upstream import BodyStream, UpstreamRequest

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Sent(NamedTuple):
    """A request as an instance read it. ``body``: decoded when it came in chunks."""

    head: bytes
    body: bytes

    @property
    def lines(self) -> list[bytes]:
        return self.head.split(b"\r\n")


async def read_request(reader: asyncio.StreamReader) -> Sent:
    """Raises ``asyncio.IncompleteReadError`` when the other side has closed."""
    head = await reader.readuntil(b"\r\n\r\n")
    lower = head.lower()
    if b"transfer-encoding: chunked" in lower:
        body = b""
        while size := int(await reader.readuntil(b"\r\n"), 16):
            body += (await reader.readexactly(size + 2))[:-2]
        await reader.readexactly(2)
        return Sent(head, body)
    _, found, rest = lower.partition(b"content-length: ")
    return Sent(head, await reader.readexactly(int(rest.split(b"\r\n")[0])) if found else b"")


class Instance:
    """A loopback server that answers each request with ``answer(request, number)``, bytes as they are;
    it closes when they are empty. ``requests``: what it was asked. ``connections``: how many there were."""

    def __init__(self, answer: Callable[[Sent, int], bytes]) -> None:
        self.answer = answer
        self.requests: list[Sent] = []
        self.connections = 0
        self.writers: list[asyncio.StreamWriter] = []
        self.pause_s = 0.0
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.writers.append(writer)
        while True:
            request = await read_request(reader)
            self.requests.append(request)
            answer = self.answer(request, len(self.requests))
            await asyncio.sleep(self.pause_s)
            writer.write(answer)
            await writer.drain()
            if not answer or b"connection: close" in answer.lower():
                return


@asynccontextmanager
async def listening(serve: Serve, port: int = 0) -> AsyncIterator[int]:
    """The port on which ``serve`` handles connections. Whoever leaves ends its handler quietly."""
    handlers: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        handlers.add(task)
        try:
            await serve(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the gateway closed, or the test is over
        finally:
            writer.close()
            handlers.discard(task)

    server = await asyncio.start_server(handle, "127.0.0.1", port)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in handlers:
            task.cancel()
        await asyncio.gather(*handlers)


@asynccontextmanager
async def instance(answer: Callable[[Sent, int], bytes]) -> AsyncIterator[Instance]:
    one = Instance(answer)
    async with listening(one.serve) as one.port:
        yield one


@asynccontextmanager
async def upstream_to(urls: Iterable[str], options: HttpOptions | None = None) -> AsyncIterator[HttpUpstream]:
    upstream = HttpUpstream("svc", FixedInstances(urls), options or HttpOptions(health=None))
    await upstream.start()
    try:
        yield upstream
    finally:
        await upstream.stop()


def ok(body: bytes = b"fine", *lines: bytes, status: bytes = b"200 OK") -> bytes:
    """An answer with its length."""
    extra = b"".join(line + b"\r\n" for line in lines)
    return b"HTTP/1.1 %b\r\ncontent-length: %d\r\n%b\r\n%b" % (status, len(body), extra, body)


def asking(
    method: str = "GET",
    path: bytes = b"/a",
    *,
    body: bytes | BodyStream = b"",
    headers: Iterable[tuple[bytes, bytes]] = (),
    timeout_s: float = 5.0,
    retries: int = 0,
) -> UpstreamRequest:
    sent = [(b"host", b"kita.example"), *headers]
    length = len(body) if isinstance(body, bytes) else body.length
    if length:
        sent.append((b"content-length", b"%d" % length))
    return UpstreamRequest(
        method=method,
        path=path.decode(),
        raw_path=path,
        query=b"",
        headers=sent,
        body=body,
        client=("192.0.2.1", 5),
        scheme="http",
        timeout_s=timeout_s,
        retries=retries,
        route="/a/**",
    )


class SlowSink:
    """A client that takes pieces but is not ``ready`` until told to ``drain``."""

    def __init__(self) -> None:
        self.started = self.finished = False
        self.taken = 0
        self._open = asyncio.Event()

    def start(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        if self.started:
            raise BrokenResponseError("a second start")
        self.started = True

    def push(self, chunk: bytes) -> None:
        self.taken += len(chunk)

    @property
    def ready(self) -> bool:
        return self._open.is_set()

    async def drained(self) -> None:
        await self._open.wait()

    async def write(self, chunk: bytes) -> None:
        self.push(chunk)
        await self.drained()

    def finish(self, chunk: bytes = b"") -> None:
        self.push(chunk)
        self.finished = True

    def drain(self) -> None:
        self._open.set()


class Pieces:
    """A ``BodyStream`` of these pieces."""

    def __init__(self, *pieces: bytes, length: int | None = None) -> None:
        self._pieces = list(pieces)
        self._length = length

    @property
    def length(self) -> int | None:
        return self._length

    async def read(self) -> bytes:
        await asyncio.sleep(0)
        return self._pieces.pop(0) if self._pieces else b""
