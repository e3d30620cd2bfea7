"""The port of a service behind the gateway: an application in this process, or HTTP instances."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import msgspec

from yuanlian.gateway.http import Headers


class UpstreamRequest(msgspec.Struct):
    """What an upstream gets: cleaned of everything that a client may not say. ``path`` is decoded,
    ``raw_path`` and ``query`` are as sent. ``client``: address and port of the peer."""

    method: str
    path: str
    raw_path: bytes
    query: bytes
    headers: Headers
    body: bytes
    client: tuple[str, int]
    scheme: str
    timeout_s: float


class ResponseSink(Protocol):
    """Where an upstream's answer goes while it comes: ``start`` once, ``write`` for each piece but the
    last, ``finish`` with the last. Header names are lower case. ``write`` waits for a client that reads
    slowly."""

    @property
    def started(self) -> bool: ...

    @property
    def finished(self) -> bool: ...

    def start(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None: ...

    async def write(self, chunk: bytes) -> None: ...

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
