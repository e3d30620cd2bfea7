"""The head that an instance answered with last: mostly the next one differs in its length only.

As with what clients send (``gateway/remembered.py``), a comparison then replaces the parser: an answer that
has arrived whole in one piece, whose head is the known one but for the digits of ``Content-Length``, and
whose body is exactly that long. ``Date`` changes it once a second. docs/decisions/0015.
"""

from __future__ import annotations

import re

from yuanlian.gateway.http import Headers
from yuanlian.gateway.upstreams.attempts import PASSING

_LONGEST = 2048
_MOST_DIGITS = 7
_LENGTH = re.compile(rb"\r\ncontent-length: ([0-9]{1,7})\r\n", re.IGNORECASE)
_FRAMING = frozenset({b"trailer", b"transfer-encoding", b"upgrade"})
_BODILESS = frozenset({204, 205, 304})


class KnownAnswer:
    """Learns from one answer in sixteen that it did not know: where heads differ each time, remembering them
    is not worth its price."""

    __slots__ = ("_after", "_before", "_headers", "_position", "_status", "_strangers")

    def __init__(self) -> None:
        self._status = 0
        self._before = b""
        self._after = b""
        self._headers: Headers = []
        self._position = 0
        self._strangers = 0

    def read(self, data: bytes) -> tuple[int, Headers, bytes] | None:
        """Status, headers and body of ``data``, when it is the known answer with another body; else None."""
        before, after = self._before, self._after
        if not before or not data.startswith(before):
            return None
        end = data.find(b"\r\n", len(before))
        digits = data[len(before) : end]
        if len(digits) > _MOST_DIGITS or not digits.isdigit() or not data.startswith(after, end):
            return None
        start = end + len(after)
        if len(data) - start != int(digits):
            return None
        headers = self._headers.copy()
        headers[self._position] = (b"content-length", digits)
        return self._status, headers, data[start:]

    def learn(self, data: bytes, status: int, headers: Headers) -> None:
        """``data`` was one whole answer, which the parser took as it is: with this status and all of these
        headers, no others, and the connection stays."""
        self._strangers = (self._strangers + 1) % 16
        if self._before and self._strangers != 1:
            return
        self._before = b""
        end = data.find(b"\r\n\r\n")
        head = data[: end + 4]
        names = [name for name, _ in headers]
        found = _LENGTH.search(head)
        lines = head.count(b"\r\n")
        plain_ends = head.count(b"\n") == lines and head.count(b"\r") == lines
        if found is None or not plain_ends or lines != len(headers) + 2 or len(head) > _LONGEST:
            return
        if not head.startswith(b"HTTP/1.1 %d " % status) or not _FRAMING.isdisjoint(names):
            return  # the parser may have read an interim answer before it
        if any(name == b"connection" and value != b"keep-alive" for name, value in headers):
            return
        if names.count(b"content-length") != 1:
            return
        if len(data) - len(head) != int(found[1]) or status in _BODILESS or status in PASSING:
            return
        self._before, self._after = head[: found.start(1)], head[found.end(1) :]
        self._headers, self._position, self._status = headers, names.index(b"content-length"), status
