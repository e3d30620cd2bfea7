"""How a request goes out to an instance: its head, and a body that is still arriving."""

from __future__ import annotations

import asyncio

from yuanlian.gateway.forwarding import written
from yuanlian.gateway.upstreams.cluster import Member
from yuanlian.gateway.upstreams.http_connection import UpstreamConnection
from yuanlian.gateway.upstreams.upstream import BodyStream, UpstreamRequest
from yuanlian.kit.errors import BadGatewayError


def request_head(request: UpstreamRequest, member: Member) -> bytes:
    """The bytes before the body. The client's ``Host`` goes on as it is.

    Raises:
        BadGatewayError: a line break in it; the parser lets none through, nobody else may either.
    """
    target = b"%b?%b" % (request.raw_path, request.query) if request.query else request.raw_path
    if b"\n" in target or b"\r" in target:
        raise BadGatewayError
    lines = request.lines or written(request.headers)
    pieces = [request.method.encode(), b" ", target, b" HTTP/1.1\r\n", lines]
    if not lines.startswith(b"host: ") and b"\nhost: " not in lines:
        host, port = member.address
        pieces.append(b"host: %b:%d\r\n" % (f"[{host}]".encode() if ":" in host else host.encode(), port))
    body = request.body
    if not isinstance(body, bytes) and body.length is None:
        pieces.append(b"transfer-encoding: chunked\r\n")
    pieces.append(b"\r\n")
    return b"".join(pieces)


async def stream(body: BodyStream, connection: UpstreamConnection, answer: asyncio.Future[int]) -> int:
    """Sends the body as it comes while the answer may come already; an answer that is whole ends both."""

    def sent(sending: asyncio.Task[None]) -> None:
        error = None if sending.cancelled() else sending.exception()
        if isinstance(error, Exception):
            connection.fail(error)

    sending = asyncio.create_task(_send(body, connection))
    sending.add_done_callback(sent)
    try:
        return await answer
    finally:
        sending.cancel()
        await asyncio.wait({sending})


async def _send(body: BodyStream, connection: UpstreamConnection) -> None:
    chunked = body.length is None
    while True:
        connection.wait_for_client()
        piece = await body.read()
        if not piece:
            break
        await connection.send_more(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
    if chunked:
        await connection.send_more(b"0\r\n\r\n")
    connection.sent()
