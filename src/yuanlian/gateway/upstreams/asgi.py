"""An upstream in this process: an ASGI 3 application, called directly."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import structlog

from yuanlian.gateway.response import BrokenResponseError
from yuanlian.gateway.upstreams.upstream import BodyStream, ResponseSink, UpstreamRequest
from yuanlian.kit.errors import BadGatewayError, GatewayTimeoutError
from yuanlian.kit.resilience.watchdog import Watch, Watchdog

# Litestar and Starlette type scopes and messages more narrowly, each in its own way.
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
ASGIApp = Callable[[Any, Receive, Send], Awaitable[None]]

_log = structlog.get_logger("gateway")
_ASGI = {"version": "3.0", "spec_version": "2.4"}


class AsgiUpstream:
    """``server``: the public address, as the application sees it in its scope.

    ``timeout_s`` runs until the answer begins, then anew for each piece of it; never while the client is
    waited for.
    """

    def __init__(self, app: ASGIApp, server: tuple[str, int] = ("127.0.0.1", 80)) -> None:
        self._app = app
        self._server = server
        self._watchdog = Watchdog()

    async def forward(self, request: UpstreamRequest, sink: ResponseSink) -> None:
        watch = self._watchdog.watch(request.timeout_s)
        exchange = _Exchange(request.body, sink, watch)
        scope = {
            "type": "http",
            "asgi": _ASGI,
            "http_version": "1.1",
            # Applications know GET only; the body of its answer goes no further than the writer.
            "method": "GET" if request.method == "HEAD" else request.method,
            "scheme": request.scheme,
            "path": request.path,
            "raw_path": request.raw_path,
            "query_string": request.query,
            "root_path": "",
            "headers": request.headers,
            "client": request.client,
            "server": self._server,
        }
        try:
            with watch:
                await self._app(scope, exchange.receive, exchange.send)
        except Exception as error:
            if exchange.failure is not None:
                raise exchange.failure from None
            if isinstance(error, TimeoutError) and watch.expired:
                raise GatewayTimeoutError from None
            _log.error("upstream failed", path=request.path, exc_info=error)
            raise BadGatewayError from error
        finally:
            exchange.end()
        if not sink.finished:
            _log.error("upstream left its answer unfinished", path=request.path, started=sink.started)
            raise BadGatewayError


class _Exchange:
    """The two channels of one ASGI call. ``failure``: why the body could not be read."""

    __slots__ = ("_body", "_ended", "_sink", "_watch", "failure")

    def __init__(self, body: bytes | BodyStream, sink: ResponseSink, watch: Watch) -> None:
        self._body: bytes | BodyStream | None = body
        self._sink = sink
        self._watch = watch
        self._ended: asyncio.Future[None] | None = None
        self.failure: Exception | None = None

    async def receive(self) -> dict[str, Any]:
        """The body, then ``http.disconnect`` once the exchange is over; a client that leaves earlier
        shows as cancellation."""
        body = self._body
        if isinstance(body, bytes):
            self._body = None
            return {"type": "http.request", "body": body, "more_body": False}
        if body is not None:
            return await self._next(body)
        if not self._sink.finished:
            self._ended = self._ended or asyncio.get_running_loop().create_future()
            await asyncio.shield(self._ended)
        return {"type": "http.disconnect"}

    async def _next(self, body: BodyStream) -> dict[str, Any]:
        try:
            with self._watch.paused():
                piece = await body.read()
        except Exception as error:
            self.failure = error
            raise
        if not piece:
            self._body = None
        return {"type": "http.request", "body": piece, "more_body": bool(piece)}

    async def send(self, message: Message) -> None:
        if self.failure is not None and not self._sink.started:
            raise self.failure  # the application may take it for its own mistake, and say so
        kind = message["type"]
        if kind == "http.response.body":
            body = message.get("body", b"")
            if message.get("more_body", False):
                self._sink.push(body)
                self._watch.restart()
                if not self._sink.ready:
                    with self._watch.paused():
                        await self._sink.drained()
            else:
                self._sink.finish(body)
                self.end()
        elif kind == "http.response.start":
            self._sink.start(message["status"], message.get("headers", ()))
        else:
            raise BrokenResponseError(f"ASGI message {kind}")

    def end(self) -> None:
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(None)
