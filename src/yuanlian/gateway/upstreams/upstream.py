"""The port of a service behind the gateway: an application in this process, or HTTP instances."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Protocol

import msgspec

from yuanlian.gateway.http import Headers


class ClientLeftError(Exception):
    """The client is gone before its request was whole: there is nobody left to answer."""


class BodyStream(Protocol):
    """A request body that is still arriving, for one reader."""

    @property
    def length(self) -> int | None:
        """Announced bytes; None when the client sends chunks."""
        ...

    async def read(self) -> bytes:
        """The next piece; ``b""`` at the end, and again after it. Reading is what makes the client
        send on.

        Raises (an upstream gives its request up and lets these pass):
            ClientLeftError: the client is gone.
            PayloadTooLargeError: a body without an announced length is over the route's limit.
            RefusedError: the client stopped sending, or sends no valid chunks.
        """
        ...


class UpstreamRequest(msgspec.Struct):
    """What an upstream gets: cleaned of everything that a client may not say. ``path`` is decoded,
    ``raw_path`` and ``query`` are as sent. ``client``: address and port of the peer.

    ``body``: bytes when it is complete and at most 64 KiB, so that it can be sent again; else a
    stream, which cannot. ``headers`` have ``content-length`` only when the length is known: without
    it a stream goes on in chunks. ``retries``: how often the route lets a failed request be repeated.
    ``route``: its path in the table; what fails is counted by it.
    ``lines``: the headers as they are written, where somebody has done so before.
    ``instance``: for the upstream to fill in with the ``host:port`` it chose, which the log names.
    """

    method: str
    path: str
    raw_path: bytes
    query: bytes
    headers: Headers
    body: bytes | BodyStream
    client: tuple[str, int]
    scheme: str
    timeout_s: float
    retries: int = 0
    route: str = ""
    instance: str = ""
    lines: bytes = b""


class ResponseSink(Protocol):
    """Where an upstream's answer goes while it comes: ``start`` once, ``push`` or ``write`` for each
    piece but the last, ``finish`` with the last. Header names are lower case."""

    @property
    def started(self) -> bool: ...

    @property
    def finished(self) -> bool: ...

    def start(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None: ...

    def push(self, chunk: bytes) -> None:
        """Takes a piece and never waits: whoever pushes looks at ``ready`` before reading on."""
        ...

    @property
    def ready(self) -> bool:
        """False while the client reads more slowly than we write: stop reading from upstream."""
        ...

    async def drained(self) -> None:
        """Waits until ``ready``."""
        ...

    async def write(self, chunk: bytes) -> None:
        """``push``, then ``drained``."""
        ...

    def finish(self, chunk: bytes = b"") -> None: ...


class Upstream(Protocol):
    """Forwards one request and writes its answer to the sink.

    Raises (before the answer starts they become an envelope, afterwards the connection is cut):
        BadGatewayError: the upstream failed, or what it answered is no HTTP response.
        GatewayTimeoutError: it did not finish within ``timeout_s``.
        ServiceUnavailableError: there is none to ask.

    Cancellation reaches the upstream: the caller cancels only what may be given up.
    """

    async def forward(self, request: UpstreamRequest, sink: ResponseSink) -> None: ...


Then = Callable[[Coroutine[Any, Any, None] | None], None]
"""Told once: the answer is whole or the request was given up (None), or this remains to be awaited."""


class Underway(Protocol):
    """An answer that will come without anybody waiting for it."""

    def cancel(self) -> object:
        """The client has left. ``Then`` is told."""
        ...


class PromptUpstream:
    """An ``Upstream`` that can often ask at once, and pass the answer on without anybody waiting."""

    def begin(self, request: UpstreamRequest, sink: ResponseSink, then: Then) -> Underway | None:
        """Sends ``request``; None when something has to be waited for first, and nothing was done.
        ``then`` is told once, later: None when the sink is finished, else what remains to be awaited and
        raises as ``forward`` does."""
        raise NotImplementedError
