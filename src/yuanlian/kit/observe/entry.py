"""The specification's ``LogEntry`` and how one becomes a line. Rendering never raises."""

from __future__ import annotations

import json
import re
import time
import traceback
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

MASK = "***"
_STACK_LIMIT = 8_000
_SECRET_ENDINGS = (
    "password",
    "passwd",
    "secret",
    "token",
    "authorization",
    "cookie",
    "apikey",
    "privatekey",
    "xidentity",
)
# Secrets that travel inside text: bearer tokens, bare JWTs, passwords in URLs.
_SECRET_TEXT = re.compile(
    r"(?i:(bearer\s+))\S+|()eyJ[\w-]+\.[\w-]+\.[\w-]*|(://[^\s:/@]*:)[^\s/@]+(?=@)"
    r"|(?i:([?&][\w-]*password=))[^\s&]+"
)
_KEY_NOISE = re.compile(r"[^a-z0-9]")


class LoggedError(msgspec.Struct):
    name: str
    message: str
    stack: str


class LogEntry(msgspec.Struct, omit_defaults=True):
    """Source: specification "日志格式". ``timestamp`` ISO 8601 UTC; ``duration`` milliseconds."""

    timestamp: str
    level: str
    service: str
    message: str
    tenantId: str | None = None
    userId: str | None = None
    requestId: str | None = None
    data: Any = None
    error: LoggedError | None = None
    duration: float | None = None
    metadata: dict[str, Any] | None = None


class AccessData(msgspec.Struct, omit_defaults=True, gc=False):
    """The ``data`` of an access line."""

    method: str
    route: str
    status: int
    bytesIn: int
    bytesOut: int
    traceId: str = ""
    upstream: str = ""


class AccessLine(msgspec.Struct, gc=False):
    """One answered request, as the edge reports it; ``""`` is unknown. Becomes an entry when written.
    ``answered_ns``: epoch nanoseconds. ``route``: the template. ``trace_id``: W3C, 32 hex digits.
    ``instance``: ``host:port`` of the upstream where there are several. ``duration_s``: seconds.
    ``bytes_in``, ``bytes_out``: of the bodies."""

    answered_ns: int
    method: str
    route: str
    status: int
    tenant_id: str
    user_id: str
    request_id: str
    trace_id: str
    instance: str
    duration_s: float
    bytes_in: int
    bytes_out: int

    def entry(self, service: str, timestamp: str) -> LogEntry:
        """Nothing in it needs masking."""
        return LogEntry(
            timestamp,
            "error" if self.status >= 500 else "info",
            service,
            f"{self.method} {self.route} {self.status}",
            self.tenant_id or None,
            self.user_id or None,
            self.request_id,
            AccessData(
                self.method,
                self.route,
                self.status,
                self.bytes_in,
                self.bytes_out,
                self.trace_id,
                self.instance,
            ),
            None,
            self.duration_s * 1e6 // 1 / 1000,  # whole microseconds; `round` takes three times as long
        )


def describe(error: BaseException) -> LoggedError:
    """An exception with its whole chain, cut to a size a log store accepts."""
    try:
        stack = "".join(traceback.format_exception(error))
        message = str(error)
    except Exception:  # noqa: BLE001 - an exception whose __str__ raises must not hide what happened
        stack, message = "", "<unprintable>"
    return LoggedError(type(error).__name__, mask_text(message), mask_text(stack[-_STACK_LIMIT:]))


def mask(value: Any, depth: int = 6) -> Any:
    """``value`` with secrets replaced, by the name of their key or by their look."""
    if isinstance(value, str):
        return mask_text(value)
    if depth == 0:
        return value if isinstance(value, int | float | bool | None) else mask_text(repr(value))
    if isinstance(value, dict):
        return {k: MASK if _is_secret(k) else mask(v, depth - 1) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [mask(item, depth - 1) for item in value]
    return value


def mask_text(text: str) -> str:
    if "eyJ" not in text and "://" not in text and "earer" not in text.lower():
        return text
    return _SECRET_TEXT.sub(lambda found: "".join(group or "" for group in found.groups()) + MASK, text)


def _is_secret(key: Any) -> bool:
    return isinstance(key, str) and _KEY_NOISE.sub("", key.lower()).endswith(_SECRET_ENDINGS)


def _foreign(value: Any) -> str:
    """What JSON does not know."""
    if isinstance(value, BaseException):
        return f"{type(value).__name__}: {mask_text(str(value))}"
    return mask_text(repr(value))


_encoder = msgspec.json.Encoder(enc_hook=_foreign)


def to_json(entries: Sequence[LogEntry]) -> list[bytes]:
    """A line for each, with its end; together they cost half as much."""
    try:
        return _encoder.encode_lines(entries).splitlines(keepends=True)
    except Exception:  # noqa: BLE001 - odd keys, lone surrogates, a __repr__ that raises
        return [_one_to_json(entry) for entry in entries]


def _one_to_json(entry: LogEntry) -> bytes:
    try:
        return _encoder.encode(entry) + b"\n"
    except Exception:  # noqa: BLE001 - as above
        return _to_json_slowly(entry) + b"\n"


def _to_json_slowly(entry: LogEntry) -> bytes:
    fields = {name: value for name, value in msgspec.structs.asdict(entry).items() if value is not None}
    if entry.error is not None:
        fields["error"] = msgspec.structs.asdict(entry.error)
    try:
        return json.dumps(fields, default=_foreign, skipkeys=True).encode()
    except Exception:  # noqa: BLE001 - a log line that cannot be written whole still says that it happened
        fields["data"] = "<unprintable>"
        return json.dumps(fields, default=lambda _value: "<unprintable>").encode()


def to_console(entries: Sequence[LogEntry]) -> list[bytes]:
    """The same for a person at a terminal."""
    return [_one_to_console(entry) for entry in entries]


def _one_to_console(entry: LogEntry) -> bytes:
    parts = [f"{entry.timestamp[11:23]} {entry.level:<5} {entry.message}"]
    data = msgspec.to_builtins(entry.data) if isinstance(entry.data, AccessData) else entry.data
    if isinstance(data, dict):
        parts += [f"{key}={value!r}" for key, value in data.items()]
    parts += [
        f"{name}={value}"
        for name, value in (("tenant", entry.tenantId), ("user", entry.userId), ("request", entry.requestId))
        if value
    ]
    if entry.duration is not None:
        parts.append(f"{entry.duration:g} ms")
    text = " ".join(parts)
    if entry.error is not None:
        text += "\n" + (entry.error.stack or f"{entry.error.name}: {entry.error.message}").rstrip()
    return text.encode(errors="backslashreplace") + b"\n"


class Timestamps:
    """ISO 8601 with milliseconds. A busy millisecond has many lines: each is formatted once, and so is the
    part down to the second, which costs most."""

    def __init__(self) -> None:
        self._known = (-1, "")
        self._known_second = (-1, "")

    def now(self) -> str:
        return self.of(time.time_ns())

    def of(self, epoch_ns: int) -> str:
        epoch_ms = epoch_ns // 1_000_000
        known, text = self._known
        if known != epoch_ms:
            seconds, ms = divmod(epoch_ms, 1000)
            known, prefix = self._known_second
            if known != seconds:
                prefix = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
                self._known_second = (seconds, prefix)
            text = f"{prefix}.{ms:03d}Z"
            self._known = (epoch_ms, text)
        return text
