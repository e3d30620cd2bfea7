"""From bytes to requests: llhttp's callbacks, and every limit on what a client may send."""

from __future__ import annotations

import time
from enum import Enum
from typing import Protocol

import httptools

from yuanlian.gateway.body import STREAMED_FROM, Flow, StreamedBody
from yuanlian.gateway.head import (
    HEAD_TOO_LARGE,
    MALFORMED,
    check_headers,
    check_host_and_framing,
    check_old_version,
    method_of,
    origin_form,
)
from yuanlian.gateway.http import Headers, RefusedError, Request, choose_request_id
from yuanlian.gateway.limits import Limits
from yuanlian.gateway.remembered import HeaderBlock, read_line
from yuanlian.kit.errors import AppError, PayloadTooLargeError, ValidationError
from yuanlian.kit.i18n import Text

_TARGET_TOO_LONG = Text("请求地址过长", "The request target is too long")
_NO_UPGRADE = Text("不支持此协议升级", "This upgrade is not supported")

_PIECE = 8 * 1024
"""Bytes parsed at once where more could hide from the limits."""
_REQUEST_LINE = 64
"""Bytes of one without its target, at most."""
_LEARN_EVERY = 16
"""Of header blocks that differ each time, remembering all would cost more than parsing them."""
_FRAMING = 16 * 1024
_FRAMING_PER_BYTE = 16
"""Bytes around the chunks of a body: so many, and so many more for each byte in them."""


class Stage(Enum):
    IDLE = 0
    HEAD = 1
    BODY = 2


_IDLE, _HEAD, _BODY = Stage  # a member is looked up in 0.1 us, a global in 0.01


class Reader(Flow, Protocol):
    """Who the intake reports to."""

    def body_limit(self, request: Request) -> int: ...

    def may_upgrade(self, request: Request) -> bool: ...

    def request_ready(self, request: Request) -> None:
        """It is whole, or its body is long enough to be a stream."""
        ...

    def body_ended(self, request: Request) -> None:
        """A streamed body is whole."""
        ...


class Intake:
    """Parses what one client sends. ``upgrading``: the request at which the parser stopped because it
    may leave HTTP. ``stream``: the body being received, when it was handed over already.
    ``continue_wanted``: the client waits for ``100 Continue`` before its body."""

    __slots__ = ("_beginning", "_begun", "_body", "_body_bytes", "_body_fed", "_body_limit", "_chunked",
                 "_client", "_fed", "_headers", "_known", "_limits", "_parser", "_partial_head", "_reader",
                 "_request", "_since", "_strangers", "_target", "continue_wanted", "stage", "stream",
                 "upgrading")  # fmt: skip

    def __init__(self, reader: Reader, client: tuple[str, int], limits: Limits) -> None:
        self._reader = reader
        self._client = client
        self._limits = limits
        self._parser = httptools.HttpRequestParser(self)
        self._request: Request | None = None
        self._partial_head = 0
        self._fed = 0
        self._begun = False
        self._since = 0.0
        self._beginning = b""
        self._target = b""
        self._headers: Headers = []
        self._body = bytearray()
        self._chunked = False
        self._body_bytes = 0
        self._body_limit = 0
        self._body_fed = 0
        self._known: HeaderBlock | None = None
        self._strangers = 0
        self.stage = _IDLE
        self.upgrading: Request | None = None
        self.stream: StreamedBody | None = None
        self.continue_wanted = False

    def feed(self, data: bytes | memoryview) -> int:
        """Parses the beginning of ``data`` and returns how many bytes that was; what they complete is
        reported meanwhile. Stops behind a request that may leave HTTP, which is ``upgrading`` then.

        Raises:
            RefusedError: a limit is exceeded, or the request cannot be understood.
        """
        before = self.stage
        known = self._known
        if known is not None and before is _IDLE and type(data) is bytes and data.endswith(known.block):
            request = self._repeated(data, known)
            if request is not None:
                self._reader.request_ready(request)
                return len(data)
        if len(data) > _PIECE and (self._chunked or before is not _BODY):
            data = memoryview(data)[:_PIECE]
        size = len(data)
        if before is _IDLE:
            self._beginning = bytes(data)
        elif before is _HEAD and len(self._beginning) < self._limits.target_bytes:
            self._beginning += data
        self._fed = self._fed + size if before is _HEAD else size
        self._begun = False
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            return int(upgrade.args[0])
        except httptools.HttpParserError as error:
            raise error.__context__ or RefusedError(ValidationError(MALFORMED)) from None
        if self.stage is _HEAD:
            self._check_unfinished_head(size)
        elif self._chunked and self.stage is _BODY:
            self._check_framing_bytes(size if before is _BODY and not self._begun else 0)
        return size

    def _repeated(self, data: bytes, known: HeaderBlock) -> Request | None:
        """The request in ``data``, which ends with the headers read last; None: the parser has to see it."""
        line = read_line(data[: -len(known.block)])
        if line is None:
            return None
        method, target, path, query = line
        if len(target) > self._limits.target_bytes:
            return None
        first = known.first
        return Request(
            method,
            target,
            path,
            query,
            known.headers,
            first,
            self._client,
            "1.1",
            time.perf_counter(),
            choose_request_id(first.get(b"x-request-id")),
            b"",
            known.keep_alive,
            known,
        )

    def _check_unfinished_head(self, size: int) -> None:
        """llhttp keeps an unfinished header to itself, however long: count what went into it. What
        precedes it in its first piece may belong to earlier requests and is not counted."""
        if self._begun:
            self._since = time.monotonic()  # the event loop's clock
        self._partial_head = 0 if self._begun else self._partial_head + size
        if self._partial_head > self._limits.head_bytes + len(self._target) + _REQUEST_LINE:
            raise RefusedError(ValidationError(HEAD_TOO_LARGE), 431)

    def _check_framing_bytes(self, size: int) -> None:
        """Chunk extensions and trailers are read by nobody and may not go on for ever. ``size``: of what
        came since the head; 0 begins anew."""
        self._body_fed = self._body_fed + size if size else 0
        if self._body_fed > _FRAMING + _FRAMING_PER_BYTE * self._body_bytes:
            raise RefusedError(PayloadTooLargeError())

    def end(self) -> None:
        """Nothing will be fed any more. Parser and intake hold each other: without this they would wait
        for the collector, which looks at what is old as good as never."""
        del self._parser, self._reader
        self._known = None  # it holds a token

    def current(self) -> Request:
        """The request being read, as far as it is known; for the answer to a refusal."""
        return self._request or self._new_request("", self._target, self._first_values())

    @property
    def idle(self) -> bool:
        """Nothing of a request has arrived."""
        return self.stage is _IDLE

    def deadline(self, now: float) -> float:
        """When patience with this client ends, nothing being served."""
        stage = self.stage
        if stage is _IDLE:
            return now + self._limits.idle_s
        return now + self._limits.body_stall_s if stage is _BODY else self._since + self._limits.head_s

    # --- llhttp's callbacks -------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self._target = b""
        self._headers = []
        self._begun = True
        self._request = None
        self.stage = _HEAD

    def on_url(self, fragment: bytes) -> None:
        self._target = self._target + fragment if self._target else fragment
        if len(self._target) > self._limits.target_bytes:
            raise RefusedError(ValidationError(_TARGET_TOO_LONG), 414)

    def on_header(self, name: bytes, value: bytes) -> None:
        # This runs once per header of every request: the limits are checked when all are in, and the
        # bytes of an unfinished head while it is fed.
        if self.stage is _HEAD:  # else a trailer of a chunked body; nothing here reads them
            self._headers.append((name.lower(), value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        first = self._first_values()
        check_headers(self._headers, first, self._limits, self._fed)
        target = self._target
        if not target.startswith(b"/") or b"#" in target:
            target = origin_form(target, first.get(b"host", b""))
        method = method_of(self._parser.get_method())
        request = self._request = self._new_request(method, target, first)
        self.stage = _BODY
        check_host_and_framing(request)
        request.keep_alive = self._parser.should_keep_alive()
        if request.version != "1.1":
            check_old_version(request, self._beginning)
        self._chunked = b"transfer-encoding" in first
        has_body = self._chunked or first.get(b"content-length", b"").strip(b"0") != b""
        if self._parser.should_upgrade():
            self._check_upgrade(request, has_body)
        if has_body:
            self._expect_body(request)

    def on_body(self, chunk: bytes) -> None:
        self._body_bytes += len(chunk)
        if self._body_bytes > self._body_limit:
            raise RefusedError(PayloadTooLargeError())
        if self.stream is not None:
            self.stream.feed(chunk)
            return
        self._body += chunk
        if self._body_bytes > STREAMED_FROM:
            self._hand_over(None)

    def on_message_complete(self) -> None:
        request = self._request
        assert request is not None  # llhttp completes heads before messages
        self.stage = _IDLE
        self.continue_wanted = False
        beginning, self._beginning = self._beginning, b""
        if self.stream is not None:
            self._end_stream(self.stream, request)
            return
        if self._body_bytes:
            request.body = bytes(self._body)
            self._body = bytearray()
            self._body_bytes = 0
        else:
            self._strangers = (self._strangers + 1) % _LEARN_EVERY
            if self._strangers == 1:
                self._known = HeaderBlock.of(beginning, request)
        if self.upgrading is None:
            self._request = None
            self._reader.request_ready(request)

    # --- rules --------------------------------------------------------------------------------

    def _first_values(self) -> dict[bytes, bytes]:
        return dict(reversed(self._headers))

    def _new_request(self, method: str, target: bytes, first: dict[bytes, bytes]) -> Request:
        path, _, query = target.partition(b"?")
        return Request(
            method,
            target,
            path,
            query,
            self._headers,
            first,
            self._client,
            self._parser.get_http_version(),
            time.perf_counter(),
            choose_request_id(first.get(b"x-request-id")),
        )

    def _check_upgrade(self, request: Request, has_body: bool) -> None:
        """llhttp takes what follows any upgrade for another protocol: with a body that we would not
        read as one, the next request could be smuggled in it."""
        if request.method == "CONNECT" or has_body:
            raise RefusedError(ValidationError(_NO_UPGRADE))
        # RFC 9110 §7.8: not for HTTP/1.0, whose proxies pass on what they do not know.
        if request.version == "1.1" and self._reader.may_upgrade(request):
            self.upgrading = request

    def _expect_body(self, request: Request) -> None:
        try:
            self._body_limit = self._reader.body_limit(request)
        except AppError as error:
            raise RefusedError(error) from None
        length = int(request.first.get(b"content-length", b"0"))
        if length > self._body_limit:
            raise RefusedError(PayloadTooLargeError())
        expects = request.first.get(b"expect")
        if expects is not None and expects.lower() == b"100-continue" and request.version == "1.1":
            self.continue_wanted = True
        if length > STREAMED_FROM:
            self._hand_over(length)

    # --- long bodies --------------------------------------------------------------------------

    def _hand_over(self, length: int | None) -> None:
        """The rest of the body goes to whoever serves the request, as it comes."""
        request, begun = self._request, bytes(self._body)
        assert request is not None  # bodies come after heads
        self._body = bytearray()
        self.stream = request.body = StreamedBody(self._reader, length, begun)
        self._reader.request_ready(request)

    def _end_stream(self, stream: StreamedBody, request: Request) -> None:
        self.stream = self._request = None
        self._body_bytes = 0
        stream.end()
        self._reader.body_ended(request)
