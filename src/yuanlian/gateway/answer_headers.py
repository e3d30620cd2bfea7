"""The header lines that stand on every answer of a route, made once when the table is read."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from yuanlian.gateway.http import STATUS_LINES

DEFAULTS: Mapping[str, str] = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
}
HSTS = "strict-transport-security"
"""Among the defaults where the gateway itself speaks TLS, and only there (RFC 6797 §7.2)."""
# Hop-by-hop fields are ours to say; a request id is on every answer and must not appear twice.
_OURS = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"x-request-id",
    }
)
RATE_LIMIT_HEADERS = frozenset({b"ratelimit-limit", b"ratelimit-remaining", b"ratelimit-reset"})
"""Ours to say on a route with a limit, whatever its service says."""
_NOT_FOR_ROUTES = frozenset(
    {"content-encoding", "content-length", "content-range", "content-type", "date", "location", "retry-after",
     "set-cookie", "vary", "www-authenticate"}
)  # fmt: skip
_NAME = re.compile(r"[A-Za-z0-9-]{1,64}")
_VALUE = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")


class BrokenResponseError(Exception):
    """What came from upstream is no valid response; the connection cannot be kept."""


class AnswerHeaders:
    """``headers``: by name, in place of one of the ``defaults`` or besides; None takes the default away and
    lets the upstream's own through. ``lines``: further lines, already written. ``replaced``: further names
    that are not passed on from upstream.

    ``beginnings``: the status line and these headers up to the value of ``x-request-id``, by status, for
    the statuses that ``beginning`` was asked for.
    """

    __slots__ = ("_lines", "beginnings", "not_passed_on")

    def __init__(
        self,
        headers: Mapping[str, str | None] | None = None,
        lines: bytes = b"",
        replaced: Iterable[bytes] = (),
        defaults: Mapping[str, str] = DEFAULTS,
    ) -> None:
        own = {name.lower(): value for name, value in (headers or {}).items()}
        said = {name: value for name, value in {**defaults, **own}.items() if value is not None}
        written = b"".join(b"%b: %b\r\n" % (n.encode("ascii"), v.encode("ascii")) for n, v in said.items())
        self._lines = b"%b%bx-request-id: " % (written, lines)
        self.not_passed_on = _OURS | {name.encode("ascii") for name in said} | set(replaced)
        self.beginnings: dict[int, bytes] = {}

    def passed_on(self, headers: Iterable[tuple[bytes, bytes]]) -> tuple[int | None, bytes]:
        """The length that an upstream's ``headers`` (lower-case names) announce, and the lines of those that
        go on to the client beside ours.

        Raises:
            BrokenResponseError: a line break in one.
        """
        length: int | None = None
        lines: list[bytes] = []
        for name, value in headers:
            if name == b"content-length":
                length = int(value)
            elif name not in self.not_passed_on:
                lines.append(b"%b: %b\r\n" % (name, value))
        block = b"".join(lines)
        if block.count(b"\n") != len(lines) or block.count(b"\r") != len(lines):
            raise BrokenResponseError("a line break inside a header")
        return length, block

    def beginning(self, status: int) -> bytes:
        line = STATUS_LINES.get(status) or b"HTTP/1.1 %d Unknown\r\n" % status
        beginning = self.beginnings[status] = line + self._lines
        return beginning


STANDARD = AnswerHeaders()
"""Where no route says otherwise, or none matched."""


def problem(name: str, value: str | None) -> str | None:
    """Why a route must not set this header; None when it may."""
    lower = name.lower()
    if _NAME.fullmatch(name) is None:
        return "is no header name"
    if lower.startswith("access-control-"):
        return "belongs to `cors`"
    if lower.encode("ascii") in _OURS or lower in _NOT_FOR_ROUTES or lower.startswith("ratelimit-"):
        return "is not for a route to set"
    if value is not None and _VALUE.fullmatch(value) is None:
        return "has a value that cannot be sent: printable ASCII, not empty (`null` takes a default away)"
    return None
