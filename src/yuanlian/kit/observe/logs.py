"""Logs: one JSON object per line, in the shape of the specification's ``LogEntry``.

``structlog.get_logger("room").info("what happened", key=value)`` anywhere: the keys become ``data``,
request, user and tenant come from the work at hand. Whatever logs through the standard library
(litestar, alembic, asyncio, warnings) comes out in the same shape. CONTRACT §12.
"""

from __future__ import annotations

import atexit
import logging
import select
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from typing import Any, BinaryIO, TextIO, cast

import structlog

from yuanlian.kit.context import known
from yuanlian.kit.observe.entry import (
    AccessLine,
    LogEntry,
    Timestamps,
    describe,
    mask,
    mask_text,
    to_console,
    to_json,
)
from yuanlian.kit.tenancy.scope import tenant_if_one

_LEVELS = {"debug": 10, "info": 20, "warn": 30, "error": 40}
_INFO = _LEVELS["info"]
DELAY_S = 0.02
LINES_AT_ONCE = 32
"""Access lines that are made together: many cost a third of one by one, but the event loop waits."""
PENDING_LIMIT = 20_000
"""Access lines that wait for a stuck stream; more are dropped and counted."""
_NAMES = {"warning": "warn", "critical": "error", "fatal": "error", "exception": "error"}


class Log:
    """Where entries of one service go. A stream that is gone or stuck loses lines (``lost``), never a
    request.

    A line is out when the call returns, except access lines: a thread writes those, up to ``DELAY_S``
    later. Writing releases the interpreter: the event loop would wait for its turn behind the database's
    threads, once per request. They are made where they come from, a few at a time; all of them in the
    thread, the event loop waited for 0.7 ms fifty times a second, and with it whoever asked meanwhile.

    ``shared``: other processes write to the same pipe. What is written there at once stays in one piece
    up to ``PIPE_BUF`` bytes (POSIX), so that no line is torn apart by another's, unless it is longer.
    """

    def __init__(
        self,
        service: str,
        stream: TextIO,
        level: str = "info",
        *,
        console: bool = False,
        shared: bool = False,
    ) -> None:
        self.service = service
        self.lost = 0
        self._threshold = _LEVELS[level]
        self._stream = stream
        self._at_once = select.PIPE_BUF if shared else sys.maxsize
        self._bytes = cast("BinaryIO | None", getattr(stream, "buffer", None))
        self._render: Callable[[Sequence[LogEntry]], list[bytes]] = to_console if console else to_json
        self._timestamps = Timestamps()
        self._made: list[bytes] = []
        self._pending: deque[LogEntry | AccessLine] = deque()
        self._writing = threading.Lock()
        self._writer = 0
        self._awake = False
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None

    def write(
        self,
        level: str,
        message: str,
        data: dict[str, Any],
        error: BaseException | None = None,
        logger: str | None = None,
    ) -> None:
        """One entry about the work at hand; ``data["duration"]`` (ms) gets its own field."""
        context = known()
        principal = context.principal if context else None
        duration = data.pop("duration", None)
        self.emit(
            LogEntry(
                timestamp=self._timestamps.now(),
                level=_NAMES.get(level, level),
                service=self.service,
                message=mask_text(message),
                tenantId=tenant_if_one() or (principal.tenant_id if principal else None),
                userId=principal.user_id if principal else None,
                requestId=context.request_id if context else None,
                data=mask(data) if data else None,
                error=describe(error) if error else None,
                duration=duration if isinstance(duration, int | float) else None,
                metadata={"logger": logger} if logger else None,
            )
        )

    def access(self, line: AccessLine) -> None:
        """The hot path; ``status`` 5xx is an error, the rest information."""
        if self._threshold > _INFO and line.status < 500:
            return
        waiting = len(self._pending)
        if waiting >= PENDING_LIMIT:
            self.lost += 1
            return
        self._pending.append(line)
        # A stuck stream holds the lock, and what waits for it is not made: it may have to be dropped.
        if waiting >= LINES_AT_ONCE and self._writing.acquire(blocking=False):
            self._writer = threading.get_ident()
            try:
                self._make_some()
            finally:
                self._writer = 0
                self._writing.release()
        if not self._awake:
            self._wake_writer()

    def emit(self, entry: LogEntry) -> None:
        self._pending.append(entry)
        self.flush()

    def flush(self) -> None:
        """Writes what is pending, in order."""
        if self._writer == threading.get_ident():
            # The collector may run any ``__del__`` while lines are made, and that may log: its entry
            # is pending, and whoever makes lines here, or the thread, comes to it.
            self._wake_writer()
            return
        with self._writing:
            self._writer = threading.get_ident()
            try:
                while self._pending or self._made:
                    self._make_some()
                    self._write_made()
            finally:
                self._writer = 0

    def _make_some(self) -> None:
        count = min(len(self._pending), LINES_AT_ONCE)
        self._made += self._render([self._entry(self._pending.popleft()) for _ in range(count)])

    def _write_made(self) -> None:
        lines, self._made = self._made, []
        try:
            for piece in _pieces(lines, self._at_once):
                self._put(piece)
        except (OSError, ValueError):
            self.lost += len(lines)

    def _entry(self, pending: LogEntry | AccessLine) -> LogEntry:
        if isinstance(pending, AccessLine):
            return pending.entry(self.service, self._timestamps.of(pending.answered_ns))
        return pending

    def _put(self, text: bytes) -> None:
        if self._bytes is not None:
            self._bytes.write(text)
            self._bytes.flush()
        else:
            self._stream.write(text.decode())

    def _wake_writer(self) -> None:
        self._awake = True
        self._wake.set()
        if self._thread is None:
            self._thread = threading.Thread(target=self._write_later, name="log", daemon=True)
            self._thread.start()
            atexit.register(self.flush)

    def _write_later(self) -> None:
        while True:
            self._wake.wait()
            time.sleep(DELAY_S)
            self._wake.clear()
            self._awake = False
            self.flush()


def configure(
    service: str,
    level: str = "info",
    stream: TextIO | None = None,
    *,
    console: bool = False,
    shared: bool = False,
) -> Log:
    """Sends this process's logs to ``stream`` (stdout). ``level``: debug, info, warn, error. ``console``:
    for people instead of machines. ``shared``: see ``Log``. Call once, before serving; a later call
    replaces the earlier.

    Raises:
        ValueError: there is no such level.
    """
    if level not in _LEVELS:
        raise ValueError(f"log level must be one of {', '.join(_LEVELS)}, not {level!r}")
    log = Log(service, stream or sys.stdout, level, console=console, shared=shared)
    structlog.configure(
        processors=[_split],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=lambda *name: _Logger(log, name[0] if name else None),
        cache_logger_on_first_use=False,  # loggers made at import must follow a later configure()
    )
    _take_over_standard_logging(log, _LEVELS[level])
    return log


def _pieces(lines: list[bytes], at_once: int) -> Iterator[bytes]:
    """The lines, as many together as may be."""
    piece: list[bytes] = []
    size = 0
    for line in lines:
        if piece and size + len(line) > at_once:
            yield b"".join(piece)
            piece, size = [], 0
        piece.append(line)
        size += len(line)
    yield b"".join(piece)


class _Logger:
    """The end of structlog's chain."""

    def __init__(self, log: Log, name: str | None) -> None:
        self._log = log
        self._name = name

    def msg(self, level: str, message: str, data: dict[str, Any], error: BaseException | None) -> None:
        self._log.write(level, message, data, error, self._name)

    debug = info = warning = error = critical = msg


def _split(
    _logger: Any, method: str, event: MutableMapping[str, Any]
) -> tuple[tuple[str, str, dict[str, Any], BaseException | None], dict[str, Any]]:
    """structlog's one dictionary, taken apart into the entry's places."""
    message = str(event.pop("event", ""))
    error = _exception(event.pop("exc_info", None))
    if error is None and isinstance(event.get("error"), BaseException):
        error = event.pop("error")
    return (method, message, dict(event), error), {}


def _exception(exc_info: Any) -> BaseException | None:
    if isinstance(exc_info, BaseException):
        return exc_info
    if isinstance(exc_info, tuple):
        return cast("BaseException | None", exc_info[1])
    return sys.exc_info()[1] if exc_info else None


class _StandardHandler(logging.Handler):
    def __init__(self, log: Log) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        try:
            message = record.getMessage()
        except Exception:  # noqa: BLE001 - arguments that do not fit their format: log what there is
            message = f"{record.msg} {record.args!r}"
        level = record.levelname.lower()
        self._log.write(level, message, {}, _exception(record.exc_info), record.name)


def _take_over_standard_logging(log: Log, level: int) -> None:
    """Other people's debugging and progress reports are noise unless we debug ourselves."""
    root = logging.getLogger()
    for handler in [h for h in root.handlers if isinstance(h, _StandardHandler)]:
        root.removeHandler(handler)
    root.addHandler(_StandardHandler(log))
    root.setLevel(level if level <= logging.DEBUG else max(level, logging.WARNING))
    logging.captureWarnings(True)
