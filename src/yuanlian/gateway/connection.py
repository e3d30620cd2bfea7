"""One client connection: HTTP/1.1 in, requests out to the handler one at a time, answers in order.

Parsing is llhttp's (strict mode refuses bare line feeds, repeated or conflicting lengths, folded
headers); this file adds the limits, the time-outs and the order. Source: RFC 9112.
"""

from __future__ import annotations

import asyncio
import functools
import math
from collections import deque
from collections.abc import Coroutine
from typing import Any, cast

from yuanlian.gateway import exchange
from yuanlian.gateway.body import is_complete
from yuanlian.gateway.flow import FlowControl
from yuanlian.gateway.gathering import GatheringTransport
from yuanlian.gateway.handler import Handler, PromptHandler
from yuanlian.gateway.http import RefusedError, Request
from yuanlian.gateway.intake import Intake
from yuanlian.gateway.limits import Limits
from yuanlian.gateway.observer import Observer
from yuanlian.gateway.peers import Peers
from yuanlian.gateway.response import ResponseWriter
from yuanlian.gateway.upgrade import Upgrade
from yuanlian.gateway.upstreams.upstream import ClientLeftError, Underway
from yuanlian.kit.errors import ServiceUnavailableError, ValidationError
from yuanlian.kit.i18n import Text

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_AHEAD = 2
_HIGH_WATER = 128 * 1024
_LOW_WATER = 32 * 1024
_TIMED_OUT = Text("请求发送超时", "The request took too long to arrive")
_TOO_MANY = Text("同一地址的连接过多", "Too many connections from one address")


class HttpConnection(FlowControl):
    """``peers``: the listener's living connections; this one enters and leaves by itself."""

    __slots__ = ("_deadline", "_deaf", "_draining", "_handler", "_held", "_intake", "_limits", "_loop",
                 "_observer", "_peer", "_peers", "_queue", "_response", "_work")  # fmt: skip

    def __init__(
        self, handler: Handler, observer: Observer, limits: Limits, peers: Peers[HttpConnection]
    ) -> None:
        self._handler, self._observer = handler, observer
        self._limits = limits
        self._peers = peers
        self._loop = asyncio.get_running_loop()
        self._queue: deque[Request | Upgrade | tuple[Request, RefusedError]] = deque()
        self._work: asyncio.Task[None] | Underway | None = None
        self._response: ResponseWriter | None = None
        self._held = b""
        self._deaf = self._draining = False
        self._deadline = math.inf
        super().__init__(limits.write_stall_s)

    # --- asyncio.Protocol ---------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        plain = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance
        self.transport = transport = GatheringTransport(plain, self._peers.turn)
        address, port, *_ = transport.get_extra_info("peername") or ("", 0)
        self._peer = str(address)
        self._intake = Intake(self, (self._peer, int(port)), self._limits)
        self._observer.connection_opened("http")
        self._deadline = self._loop.time() + self._limits.idle_s
        if self._peers.enter(self, self._peer):
            transport.set_write_buffer_limits(_HIGH_WATER, _LOW_WATER)
        elif self._peers.crowded(self._peer):
            transport.abort()
        else:
            self._refuse(RefusedError(ServiceUnavailableError(_TOO_MANY)))

    def data_received(self, data: bytes) -> None:
        self._take(self._held + data if self._held else data)
        if self._queue and self._work is None:
            self._deadline = math.inf
            self._peers.arrived.add(self._begin)
        elif self._work is None:
            if not self._deaf:
                self._await_more()
            return
        if self._held or self._intake.stream is not None:
            self._regulate()

    def _take(self, data: bytes) -> None:
        """Parses, but no more than two requests ahead: as objects they weigh many times more."""
        size, taken = len(data), 0
        while taken < size and not self._deaf and len(self._queue) < _AHEAD:
            try:
                taken += self._intake.feed(memoryview(data)[taken:] if taken else data)
            except RefusedError as refusal:
                self._refuse(refusal)
            if self._intake.upgrading is not None and not self._deaf:
                self._leave_http(self._intake.upgrading, data[taken:])
        self._held = data[taken:] if taken < size and not self._deaf else b""

    def eof_received(self) -> bool:
        """A client that closes its side has left (as nginx sees it): the transport closes."""
        return False

    def connection_lost(self, _why: Exception | None) -> None:
        self.transport = None
        self._deaf = True
        self._queue.clear()
        self.resume_writing()
        self._observer.connection_closed("http")
        if self._intake.stream is not None:
            self._intake.stream.fail(ClientLeftError())
        self._intake.end()
        response, work = self._response, self._work
        if work is None:
            self._peers.leave(self, self._peer)
        elif response is None or exchange.may_be_given_up(response.request):
            work.cancel()

    # --- what the intake reports --------------------------------------------------------------

    def body_limit(self, request: Request) -> int:
        return self._handler.body_limit(request)

    def may_upgrade(self, request: Request) -> bool:
        return self._handler.upgrade(request) is not None

    def request_ready(self, request: Request) -> None:
        self._queue.append(request)
        if self._work is not None or len(self._queue) > 1:
            self._regulate()
        if not request.keep_alive and is_complete(request.body):
            self._deaf = True

    def body_ended(self, request: Request) -> None:
        self._deadline = math.inf
        if not request.keep_alive:
            self._deaf = True

    def body_wanted(self) -> None:
        stream = self._intake.stream
        if self._intake.continue_wanted and stream is not None and self.transport is not None:
            self._intake.continue_wanted = False
            if not stream.answered:
                self.transport.write(_CONTINUE)
        self._regulate()

    # --- serving ------------------------------------------------------------------------------

    def _enqueue(self, item: Upgrade | tuple[Request, RefusedError]) -> None:
        self._queue.append(item)
        if self._work is None:
            self._deadline = math.inf
            self._work = self._loop.create_task(self._serve())
        else:
            self._regulate()

    def _begin(self) -> None:
        """Serves the next request: without a task, where it has to wait for nobody but its upstream."""
        if not self._queue or self._work is not None:
            return  # the client has left, or a task has been made meanwhile
        handler, request = self._handler, self._queue[0]
        alone = len(self._queue) == 1 and not self.writing_paused and isinstance(handler, PromptHandler)
        if alone and isinstance(request, Request) and isinstance(request.body, bytes):
            self._queue.clear()
            self._work = exchange.begin(handler, self._respond(request), self._go_on) or self._work
        else:
            self._work = self._loop.create_task(self._serve())

    def _go_on(self, rest: Coroutine[Any, Any, None] | None) -> None:
        """With a request that was begun without a task."""
        response = self._response
        assert response is not None  # something was begun
        if rest is not None:
            self._work = task = self._loop.create_task(self._serve(rest))
            task.add_done_callback(functools.partial(self._cut_short, rest))
            return
        exchange.write_down(self._observer, response)
        self._work = self._response = None
        if self.transport is None:
            self._peers.leave(self, self._peer)
        elif not self._can_go_on(response):
            self._finish(linger=False)
        elif self._queue:
            self._work = self._loop.create_task(self._serve())
        else:
            self._await_more()

    def _cut_short(self, rest: Coroutine[Any, Any, None], task: asyncio.Task[None]) -> None:
        """A task that is cancelled before its first step leaves everything as it is."""
        if self._work is task:
            rest.close()
            self._go_on(None)

    async def _serve(self, rest: Coroutine[Any, Any, None] | None = None) -> None:
        """``rest``: what remains to be done for a request that was begun."""
        try:
            if rest is not None and not await self._answer(rest):
                return
            while self._queue:
                await self.writable()  # answers do not pile up for a client that does not read them
                item = self._queue.popleft()
                if self._held:
                    self._take(self._held)
                if self._paused or self._intake.stream is not None:
                    self._regulate()
                if isinstance(item, Upgrade):
                    self._hand_over(item)
                    return
                if isinstance(item, tuple):
                    exchange.refuse(self._observer, ResponseWriter(self, item[0], keep_alive=False), item[1])
                    self._finish(linger=True)
                    return
                if not await self._answer(self._handler.handle(item, self._respond(item))):
                    return
                if self._queue:
                    await asyncio.sleep(0)  # a long pipeline must not keep the loop from the others
        except BaseException:
            if self.transport is not None:
                self.transport.abort()  # nobody would ever serve it again
            raise
        finally:
            self._work = self._response = None
            if self.transport is None:
                self._peers.leave(self, self._peer)
        self._await_more()

    def _respond(self, request: Request) -> ResponseWriter:
        keep = request.keep_alive and not self._draining
        self._response = response = ResponseWriter(self, request, keep_alive=keep)
        return response

    async def _answer(self, work: Coroutine[Any, Any, None]) -> bool:
        """Whether the connection can take another request after this one."""
        response = self._response
        assert response is not None  # the caller's
        await exchange.serve(work, self._observer, response)
        if self._can_go_on(response):
            return True
        self._finish(linger=not is_complete(response.request.body))
        return False

    def _regulate(self) -> None:
        """While serving, reading goes on, to notice a client that leaves; but one request more than is
        being served is enough to know, and so is what waits of a body. A body that is let come has to."""
        stream = self._intake.stream
        self._pause_reading(bool(self._queue or self._held) or (stream is not None and stream.full))
        if stream is None or self._paused or self._deaf or self._intake.continue_wanted:
            self._deadline = math.inf
        else:
            self._deadline = self._loop.time() + self._limits.body_stall_s

    def _can_go_on(self, response: ResponseWriter) -> bool:
        """Whether the connection can take another request."""
        transport = self.transport
        if not response.finished and transport is not None:
            transport.abort()  # nothing else tells the client that the body is cut short
        return response.keep_alive and response.finished and transport is not None

    def _hand_over(self, upgrade: Upgrade) -> None:
        if self.transport is None or self.transport.is_closing():
            return
        transport = self.transport.release()
        protocol = upgrade.handler.accept(transport, upgrade.request, upgrade.leftover)
        self.transport, self._deaf = None, True
        self._intake.end()
        self._observer.connection_closed("http")
        transport.set_protocol(self._peers.upgraded(protocol, self._peer))
        transport.resume_reading()

    # --- refusing, closing, waiting -----------------------------------------------------------

    def _refuse(self, refusal: RefusedError) -> None:
        """In its turn; a request whose body is at fault is being served already."""
        self._deaf = True
        stream = self._intake.stream
        if stream is not None:
            stream.fail(refusal if refusal.status is not None else refusal.error)
        else:
            self._enqueue((self._intake.current(), refusal))

    def _leave_http(self, request: Request, leftover: bytes) -> None:
        """The parser stopped at an ``Upgrade`` that may be: give the connection away in its turn."""
        handler = self._handler.upgrade(request)
        assert handler is not None  # the intake asked may_upgrade before it stopped here
        self._deaf = True
        if self.transport is not None:
            self.transport.pause_reading()
        self._enqueue(Upgrade(handler, request, leftover))

    def _finish(self, *, linger: bool) -> None:
        """Closes. After a refusal the client may still be sending: closing on unread bytes would
        reset the connection and lose the answer, so read on for a moment (RFC 9112 §9.6)."""
        self._deaf = True
        self._queue.clear()
        if self.transport is None or self.transport.is_closing():
            return
        if linger:
            if self.transport.can_write_eof():  # TLS cannot
                self.transport.write_eof()
            self._pause_reading(False)
            self._deadline = self._loop.time() + self._limits.linger_s
        else:
            self._close()

    def _await_more(self) -> None:
        if self.transport is None or self.transport.is_closing():
            return
        if self._intake.continue_wanted:
            self._intake.continue_wanted = False
            self.transport.write(_CONTINUE)
        self._deadline = self._intake.deadline(self._loop.time())
        if self._draining and self._intake.idle:
            self._close()

    def _close(self) -> None:
        """What is unsent leaves first; a client that does not take it in time is cut off."""
        if self.transport is not None:
            self.transport.close()
            self._deadline = self._loop.time() + self._limits.write_stall_s

    def check_deadline(self, now: float) -> None:
        """Called about once a second by the listener."""
        if (now < self._deadline and now < self.write_deadline) or self.transport is None:
            return
        self._deadline = math.inf
        if now >= self.write_deadline or self.transport.is_closing():
            self.transport.abort()
        elif self._deaf or self._intake.idle:
            self._close()
        else:
            self._refuse(RefusedError(ValidationError(_TIMED_OUT), 408))

    @property
    def arriving(self) -> bool:
        """Its TLS handshake is under way."""
        return self.transport is None and not self._deaf

    def drain(self, *, wait: bool = False) -> None:
        """Answers what was asked, then closes; ``wait``: one who came just now may still ask."""
        self._draining = True
        if self._work is None and not self._queue and (self._intake.idle or self._deaf) and not wait:
            self._close()

    def abort(self) -> None:
        if self._work is not None:
            self._work.cancel()
        if self.transport is not None:
            self.transport.abort()
