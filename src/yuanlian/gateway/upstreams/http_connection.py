"""One connection to an instance: HTTP/1.1 requests out, one at a time, answers straight to the sink.

An answer is parsed where its bytes arrive and given to the sink there, so that the client has it in
the same turn of the event loop. Source: RFC 9112.
"""

from __future__ import annotations

import asyncio
import math
import select
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

import httptools

from yuanlian.gateway.flow import FlowControl
from yuanlian.gateway.gathering import GatheringTransport
from yuanlian.gateway.http import Headers
from yuanlian.gateway.response import BrokenResponseError
from yuanlian.gateway.upstreams.attempts import PASSING, Answer, AttemptError
from yuanlian.gateway.upstreams.framing import HEAD_BYTES, check_framing, is_too_large
from yuanlian.gateway.upstreams.upstream import ResponseSink
from yuanlian.kit.errors import BadGatewayError, GatewayTimeoutError

if TYPE_CHECKING:
    from yuanlian.gateway.upstreams.pool import Pool


class UpstreamConnection(FlowControl):
    """``deadline``: on the event loop's clock, when patience with the other side ends; whoever owns
    connections calls ``check_deadline`` from time to time. ``lost``: it cannot be used any more. ``poll``:
    the pool's, to look whether it is quiet."""

    __slots__ = ("_again", "_answer", "_answered", "_bodiless", "_broken", "_clients_turn", "_complete",
                 "_discarding", "_head_bytes", "_headers", "_held", "_interim", "_loop", "_owner",
                 "_parser", "_resuming", "_sending", "_sink", "_stall_s", "_started", "_status",
                 "_until_close", "_upgrading", "deadline", "lost", "poll")  # fmt: skip

    def __init__(self, owner: Pool) -> None:
        super().__init__()
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpResponseParser(self)
        self._answer: Answer | None = None
        self._sink: ResponseSink | None = None
        self._resuming: asyncio.Task[None] | None = None
        self.poll: select.poll | None = None
        self._broken = self._sending = self._interim = False
        self.deadline = math.inf
        self.lost = False

    # --- one exchange -------------------------------------------------------------------------

    def send(
        self,
        data: bytes,
        sink: ResponseSink,
        *,
        until: float,
        stall_s: float,
        bodiless: bool = False,
        more: bool = False,
        upgrade: bool = False,
        again: Callable[[], bool] | None = None,
        answer: Answer,
    ) -> None:
        """Sends a request; ``answer`` gets the status once the sink is finished, or the
        ``AttemptError``. To give up, call ``abandon``.

        ``until``: when the answer must have begun. ``stall_s``: how long it may pause afterwards.
        ``bodiless``: the method is HEAD. ``more``: the body follows with ``send_more``. ``upgrade``: the
        answer may be 101, of which the sink hears nothing; ``hand_over`` is next. ``again``: asked before
        a 502, 503 or 504 is passed on; True swallows it, the request will be repeated.
        """
        self._sink = sink
        self._headers: Headers = []
        self._held = b""
        self._head_bytes = 0
        self._status = 0
        self._started = self._complete = self._answered = self._discarding = self._until_close = False
        self._bodiless = bodiless
        self._sending = more
        self._clients_turn = False
        self._upgrading = upgrade
        self._again = again
        self._stall_s = stall_s
        self.deadline = until
        self._answer = answer
        transport = self.transport
        assert transport is not None  # the pool gives away living connections only
        transport.write(data)

    async def send_more(self, data: bytes) -> None:
        """Sends a piece of the body; waits while the instance reads more slowly than we write."""
        if self.transport is None or self.lost:
            return
        self.transport.write(data)
        self._clients_turn = False
        self._have_patience()
        await self.writable()

    def wait_for_client(self) -> None:
        """The next piece of the body is the client's to send: no fault of the instance."""
        self._clients_turn = True
        self._have_patience()

    def sent(self) -> None:
        """The whole request has been sent."""
        self._sending = self._clients_turn = False
        self._have_patience()

    def _have_patience(self) -> None:
        """Until the client goes on, when it is the slow one, in either direction."""
        waits = self._clients_turn or self._resuming is not None
        self.deadline = math.inf if waits else self._loop.time() + self._stall_s

    def abandon(self, answer: Answer) -> None:
        """Nobody wants ``answer`` any more; a connection that is already free, or busy for somebody
        else, is not touched."""
        if self._answer is answer:
            self._answer = self._sink = None
            self.close()

    def fail(self, error: Exception) -> None:
        """Ends the exchange with ``error`` and the connection with it."""
        answer = self._answer
        self._answer = self._sink = None
        self.close()
        if answer is not None and not answer.done():
            answer.set_exception(error)

    def close(self) -> None:
        self.lost = True
        self.deadline = math.inf
        if self.transport is not None:
            self.transport.abort()

    def hand_over(self, protocol: asyncio.Protocol) -> tuple[asyncio.Transport, Headers, bytes] | None:
        """After a 101: the transport, which speaks ``protocol`` from now on and waits for
        ``resume_reading``; the head's headers; the bytes behind it. None when it is lost already."""
        if self.transport is None or self.lost:
            return None
        transport = self.transport.release()
        transport.set_protocol(protocol)
        self.transport, self.lost = None, True
        del self._parser
        return transport, self._headers, self._held

    def check_deadline(self, now: float) -> None:
        if now < self.deadline:
            return
        if self._answer is None:
            self.close()  # idle for too long
        else:
            self.fail(AttemptError(GatewayTimeoutError(), "no answer in time"))

    # --- asyncio.Protocol ---------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        plain = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance
        self.transport = GatheringTransport(plain, self._owner.turn)

    def data_received(self, data: bytes) -> None:
        if self._sink is None:
            self.close()  # nobody asked: what it says could be taken for the next answer
            return
        first, self._answered = not self._answered, True
        if first and self._take_known(data):
            return
        if not self._started:
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._switch(data[upgrade.args[0] :])
            return
        except httptools.HttpParserError as error:
            self._broken = True
            if not self._complete:
                self._fail_broken(str(error.__context__ or error))
                return
        if self._complete:
            if first and not self._broken and self._started:
                self._owner.known.learn(data, self._status, self._headers)
            self._settle()
        elif self._started:
            self._push_on(len(data))
        elif self._head_bytes > HEAD_BYTES:
            self._fail_broken("head too large")

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self.transport = None
        self.resume_writing()
        self._owner.forget(self)
        del self._parser  # each holds the other: they would wait for the collector
        if self._answer is None:
            return
        if self._until_close and self._started and exc is None:
            self._finish()
            if self._complete:
                self._settle()
        else:
            reason = "connection lost" if exc is None else str(exc)
            self.fail(AttemptError(BadGatewayError(), reason, unanswered=not self._answered))

    # --- llhttp's callbacks -------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self._complete:
            self._broken = True  # a second answer to one question

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._started:  # else a trailer of a chunked body; nothing reads them
            self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        if self._complete:
            return
        status = self._parser.get_status_code()
        if status < 200:
            if status < 100:
                raise BrokenResponseError(f"status {status}")
            if status == 101:
                if self._upgrading and self._parser.should_upgrade():
                    self._complete = True
                    return
                raise BrokenResponseError("an upgrade that nobody asked for")
            self._interim = True
            self._headers = []
            return
        bodiless = self._bodiless or status in (204, 304)
        version = self._parser.get_http_version()
        headers, self._until_close = check_framing(self._headers, version, bodiless=bodiless)
        if self._head_bytes > HEAD_BYTES and is_too_large(headers):
            raise BrokenResponseError("head too large")
        self._status = status
        self._started = True
        if status in PASSING and self._again is not None and self._again():
            self._discarding = True
            return
        sink = self._sink
        assert sink is not None  # checked before the bytes were fed
        sink.start(status, headers)
        if self._bodiless:
            self._broken = True  # the parser now waits for a body that HEAD does not have
            self._finish()

    def on_body(self, chunk: bytes) -> None:
        if self._complete or self._discarding:
            return
        if self._held and self._sink is not None:
            self._sink.push(self._held)
        self._held = chunk  # the last piece leaves with the end of the message

    def on_message_complete(self) -> None:
        if self._interim:
            self._interim = False
        elif not self._complete:
            self._finish()
            if not self._parser.should_keep_alive():
                self._broken = True

    # --- steps --------------------------------------------------------------------------------

    def _take_known(self, data: bytes) -> bool:
        """Whether it was an answer that can be understood without the parser."""
        known = None if self._bodiless or self._upgrading else self._owner.known.read(data)
        if known is None or self._sink is None:
            return False
        self._started = self._complete = True
        self._status, headers, self._held = known
        try:
            self._sink.start(self._status, headers)
            self._finish()
            self._settle()
        except BrokenResponseError as error:
            self._fail_broken(str(error))
        return True

    def _push_on(self, size: int) -> None:
        """More will come: what is here goes out, and a slow client makes us stop reading. What is no
        body, such as a trailer, the parser keeps to itself however long it gets: it is counted."""
        sink, transport = self._sink, self.transport
        if self._discarding:
            self.fail(AttemptError.of_status(self._status))  # not worth waiting for its end
            return
        assert sink is not None  # the exchange is under way
        held, self._held = self._held, b""
        self._head_bytes = 0 if held else self._head_bytes + size
        if self._head_bytes > HEAD_BYTES:
            self._fail_broken("trailers too large")
            return
        try:
            sink.push(held)
        except BrokenResponseError as error:
            self._fail_broken(str(error))
            return
        if not sink.ready and transport is not None and self._resuming is None:
            transport.pause_reading()
            self._resuming = self._loop.create_task(self._resume(sink))
        self._have_patience()

    async def _resume(self, sink: ResponseSink) -> None:
        await sink.drained()
        self._resuming = None
        if self._sink is sink and self.transport is not None:
            self._have_patience()
            self.transport.resume_reading()

    def _finish(self) -> None:
        self._complete = True
        held, self._held = self._held, b""
        if self._sink is not None and not self._discarding:
            try:
                self._sink.finish(held)
            except BrokenResponseError as error:
                self._fail_broken(str(error))

    def _settle(self) -> None:
        """The answer is whole: free the connection, if it is in a state to be used again."""
        answer, refused = self._answer, self._discarding
        self._answer = self._sink = None
        self.deadline = math.inf
        if self._broken or self._sending or self.lost:
            self.close()
        else:
            self._owner.release(self)
        if answer is None or answer.done():
            return
        if refused:
            answer.set_exception(AttemptError.of_status(self._status))
        else:
            answer.set_result(self._status)

    def _switch(self, rest: bytes) -> None:
        answer, transport = self._answer, self.transport
        self._answer = self._sink = None
        self.deadline = math.inf
        self._held = rest
        self._owner.forget(self)
        if answer is None or answer.done() or transport is None:
            self.close()
        else:
            transport.pause_reading()
            answer.set_result(101)

    def _fail_broken(self, reason: str) -> None:
        self.fail(AttemptError(BadGatewayError(), reason))
