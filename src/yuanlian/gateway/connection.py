"""One client connection: HTTP/1.1 in, requests out to the handler one at a time, answers in order.

Parsing is llhttp's (strict mode refuses bare line feeds, repeated or conflicting lengths, folded
headers); this file adds the limits, the time-outs and the order. Source: RFC 9112.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from dataclasses import dataclass
from typing import Protocol, cast

import httptools
import structlog

from yuanlian.gateway.http import SAFE_METHODS, RefusedError, Request, error_response
from yuanlian.gateway.intake import Intake, Limits
from yuanlian.gateway.observer import Observer
from yuanlian.gateway.response import BrokenResponseError, ResponseWriter
from yuanlian.gateway.upgrade import UpgradeHandler
from yuanlian.kit.errors import AppError, InternalError, ValidationError
from yuanlian.kit.i18n import Text
from yuanlian.kit.observe.entry import AccessLine

_log = structlog.get_logger("gateway")
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_CLIENT_LEFT = 499
_TIMED_OUT = Text("请求发送超时", "The request took too long to arrive")


class Handler(Protocol):
    """What a listener serves."""

    def body_limit(self, request: Request) -> int:
        """Bytes that the body may have; asked once the head is known. An ``AppError`` refuses the
        request before its body is read, and closes."""
        ...

    def upgrade(self, request: Request) -> UpgradeHandler | None:
        """Who takes the connection over, when this request asks for it and may."""
        ...

    async def handle(self, request: Request, response: ResponseWriter) -> None:
        """Answers. An ``AppError`` raised before the response starts becomes its envelope. Cancelled
        when the client leaves, unless a write was already forwarded."""
        ...


@dataclass(frozen=True, slots=True)
class _Upgrade:
    handler: UpgradeHandler
    request: Request
    leftover: bytes


class HttpConnection(asyncio.Protocol):
    """``peers``: the listener's living connections; this one enters and leaves by itself."""

    def __init__(
        self, handler: Handler, observer: Observer, limits: Limits, peers: set[HttpConnection]
    ) -> None:
        self._handler = handler
        self._observer = observer
        self._limits = limits
        self._peers = peers
        self._loop = asyncio.get_running_loop()
        self._queue: deque[Request | _Upgrade | tuple[Request, RefusedError]] = deque()
        self._task: asyncio.Task[None] | None = None
        self._serving: Request | None = None
        self._drained: asyncio.Future[None] | None = None
        self._deaf = False
        self._draining = False
        self._paused = False
        self._deadline = math.inf
        self.transport: asyncio.Transport | None = None

    # --- asyncio.Protocol ---------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance
        peer = transport.get_extra_info("peername") or ("", 0)
        self._intake = Intake(self, (str(peer[0]), int(peer[1])), self._limits)
        self._peers.add(self)
        self._observer.connection_opened("http")
        self._deadline = self._loop.time() + self._limits.idle_s

    def data_received(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest and not self._deaf:
            try:
                self._intake.feed(rest)
                break
            except RefusedError as refusal:
                self._refuse(refusal)
            except httptools.HttpParserUpgrade as upgrade:
                rest = rest[upgrade.args[0] :]
                if self._intake.upgrading is not None:
                    self._leave_http(self._intake.upgrading, bytes(rest))
        if self._task is None and not self._deaf:
            self._await_more()

    def eof_received(self) -> bool:
        """A client that closes its side has left (as nginx sees it): the transport closes."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        del exc  # why the client left changes nothing
        self.transport = None
        self._deaf = True
        self._queue.clear()
        self.resume_writing()
        self._observer.connection_closed("http")
        request, task = self._serving, self._task
        if task is None:
            self._peers.discard(self)
        elif request is None or not request.forwarded or request.method in SAFE_METHODS:
            task.cancel()

    def pause_writing(self) -> None:
        self._drained = self._drained or self._loop.create_future()
        self._deadline = self._loop.time() + self._limits.write_stall_s

    def resume_writing(self) -> None:
        if self._drained is not None:
            self._drained.set_result(None)
            self._drained = None
            self._deadline = math.inf if self._task else self._intake.deadline(self._loop.time())

    @property
    def writing_paused(self) -> bool:
        return self._drained is not None

    async def writable(self) -> None:
        if self._drained is not None:
            await asyncio.shield(self._drained)

    # --- what the intake reports --------------------------------------------------------------

    def body_limit(self, request: Request) -> int:
        return self._handler.body_limit(request)

    def may_upgrade(self, request: Request) -> bool:
        return self._handler.upgrade(request) is not None

    def request_complete(self, request: Request) -> None:
        self._enqueue(request)
        if not request.keep_alive:
            self._deaf = True

    # --- serving ------------------------------------------------------------------------------

    def _enqueue(self, item: Request | _Upgrade | tuple[Request, RefusedError]) -> None:
        self._queue.append(item)
        if self._task is None:
            if self._drained is None:
                self._deadline = math.inf
            self._task = self._loop.create_task(self._serve())
        elif self.transport is not None:
            self.transport.pause_reading()  # one more than is being served is enough to know
            self._paused = True

    async def _serve(self) -> None:
        try:
            while self._queue:
                if self._drained is not None:
                    await self.writable()  # answers do not pile up for a client that does not read them
                item = self._queue.popleft()
                if self._paused:
                    self._listen_again()
                if isinstance(item, _Upgrade):
                    self._hand_over(item)
                    return
                request, refusal = item if isinstance(item, tuple) else (item, None)
                if not await self._answer(request, refusal):
                    self._finish(linger=refusal is not None)
                    return
                if self._queue:
                    await asyncio.sleep(0)  # a long pipeline must not keep the loop from the others
        finally:
            self._task = self._serving = None
            if self.transport is None:
                self._peers.discard(self)
        self._await_more()

    def _listen_again(self) -> None:
        """Reading goes on while the last known request is served, to notice a client that leaves."""
        if self._paused and not self._queue and self.transport is not None:
            self._paused = False
            self.transport.resume_reading()

    async def _answer(self, request: Request, refusal: RefusedError | None) -> bool:
        """Whether the connection can take another request."""
        self._serving = request
        keep_alive = request.keep_alive and refusal is None and not self._draining
        response = ResponseWriter(self, request, keep_alive=keep_alive)
        try:
            if refusal is None:
                await self._handler.handle(request, response)
            else:
                response.send(error_response(refusal.error, request, refusal.status))
        except Exception as error:  # noqa: BLE001 - the last one who can still answer with an envelope
            self._fail(request, response, error)
        finally:
            self._observer.request_finished(
                AccessLine(
                    time.time_ns(),
                    request.method,
                    request.route,
                    response.status or _CLIENT_LEFT,
                    request.tenant_id,
                    request.user_id,
                    request.request_id,
                    request.trace_id,
                    request.instance,
                    time.perf_counter() - request.started,
                    len(request.body),
                    response.bytes_out,
                )
            )
        transport = self.transport
        if not response.finished and transport is not None:
            transport.abort()  # nothing else tells the client that the body is cut short
        return response.keep_alive and response.finished and transport is not None

    def _fail(self, request: Request, response: ResponseWriter, error: Exception) -> None:
        if not isinstance(error, AppError | BrokenResponseError):
            _log.error("request failed", request_id=request.request_id, exc_info=error)
        if response.started:
            _log.error("response broken", request_id=request.request_id, reason=str(error))
        else:
            response.send(error_response(error if isinstance(error, AppError) else InternalError(), request))

    def _hand_over(self, upgrade: _Upgrade) -> None:
        transport = self.transport
        if transport is None:
            return
        self.transport = None
        self._deaf = True
        self._observer.connection_closed("http")
        transport.set_protocol(upgrade.handler.accept(transport, upgrade.request, upgrade.leftover))
        transport.resume_reading()

    # --- refusing, closing, waiting -----------------------------------------------------------

    def _refuse(self, refusal: RefusedError) -> None:
        self._deaf = True
        self._enqueue((self._intake.current(), refusal))

    def _leave_http(self, request: Request, leftover: bytes) -> None:
        """The parser stopped at an ``Upgrade`` that may be: give the connection away in its turn."""
        handler = self._handler.upgrade(request)
        assert handler is not None  # the intake asked may_upgrade before it stopped here
        self._deaf = True
        if self.transport is not None:
            self.transport.pause_reading()
        self._enqueue(_Upgrade(handler, request, leftover))

    def _finish(self, *, linger: bool) -> None:
        """Closes. After a refusal the client may still be sending: closing on unread bytes would
        reset the connection and lose the answer, so read on for a moment (RFC 9112 §9.6)."""
        self._deaf = True
        self._queue.clear()
        transport = self.transport
        if transport is None or transport.is_closing():
            return
        if linger and transport.can_write_eof():
            transport.write_eof()
            self._listen_again()
            self._deadline = self._loop.time() + self._limits.linger_s
        else:
            transport.close()

    def _await_more(self) -> None:
        transport = self.transport
        if transport is None or transport.is_closing():
            return
        if self._intake.continue_wanted:
            self._intake.continue_wanted = False
            transport.write(_CONTINUE)
        if self._draining and self._intake.idle:
            transport.close()
            return
        self._deadline = self._intake.deadline(self._loop.time())

    def check_deadline(self, now: float) -> None:
        """Called about once a second by the listener."""
        if now < self._deadline or self.transport is None:
            return
        self._deadline = math.inf
        if self._drained is not None:
            self.transport.abort()
        elif self._deaf or self._intake.idle:
            self.transport.close()
        else:
            self._refuse(RefusedError(ValidationError(_TIMED_OUT), 408))

    def drain(self) -> None:
        """Answers what was asked, then closes."""
        self._draining = True
        if self._task is None and self.transport is not None and (self._intake.idle or self._deaf):
            self.transport.close()

    def abort(self) -> None:
        if self._task is not None:
            self._task.cancel()
        if self.transport is not None:
            self.transport.abort()
