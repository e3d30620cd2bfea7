"""The head that an instance answered with last: mostly the next one differs in its length only.

As with what clients send (``gateway/remembered.py``), a comparison then replaces the parser: an answer that
has arrived whole in one piece, whose head is the known one but for the digits of ``Content-Length``, and
whose body is exactly that long. ``Date`` changes it once a second. docs/decisions/0015.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from yuanlian.gateway.answer_headers import AnswerHeaders
from yuanlian.gateway.http import Headers
from yuanlian.gateway.upstreams.attempts import PASSING

_LONGEST = 2048
_MOST_DIGITS = 7
_LENGTH = re.compile(rb"\r\ncontent-length: ([0-9]{1,7})\r\n", re.IGNORECASE)
_FRAMING = frozenset({b"trailer", b"transfer-encoding", b"upgrade"})
_BODILESS = frozenset({204, 205, 304})


class KnownHeaders:
    """The headers of a known answer with a length of its own; iterates as any headers do."""

    __slots__ = ("_head", "length")

    def __init__(self, head: _Head, length: int) -> None:
        self._head = head
        self.length = length

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        headers = self._head.headers.copy()
        headers[self._head.position] = (b"content-length", b"%d" % self.length)
        return iter(headers)

    def passed_on(self, standing: AnswerHeaders) -> tuple[int, bytes]:
        """As ``standing.passed_on``, remembered."""
        lines = self._head.lines.get(standing)
        if lines is None:
            _, lines = standing.passed_on(self)
            self._head.lines[standing] = lines
        return self.length, lines


class _Head:
    """``before`` and ``after``: the digits of its length. ``position``: of that header. ``lines``: by what
    stands on a route's answers."""

    __slots__ = ("after", "before", "headers", "lines", "position", "status")

    def __init__(self, before: bytes, after: bytes, status: int, headers: Headers, position: int) -> None:
        self.before = before
        self.after = after
        self.status = status
        self.headers = headers
        self.position = position
        self.lines: dict[AnswerHeaders, bytes] = {}


class KnownAnswer:
    """Learns from one answer in sixteen that it did not know: where heads differ each time, remembering them
    is not worth its price."""

    __slots__ = ("_head", "_strangers")

    def __init__(self) -> None:
        self._head: _Head | None = None
        self._strangers = 0

    def read(self, data: bytes) -> tuple[int, KnownHeaders, bytes] | None:
        """Status, headers and body of ``data``, when it is the known answer with another body; else None."""
        head = self._head
        if head is None or not data.startswith(head.before):
            return None
        begin = len(head.before)
        end = data.find(b"\r\n", begin)
        digits = data[begin:end]
        if len(digits) > _MOST_DIGITS or not digits.isdigit() or not data.startswith(head.after, end):
            return None
        start = end + len(head.after)
        length = int(digits)
        if len(data) - start != length:
            return None
        return head.status, KnownHeaders(head, length), data[start:]

    def learn(self, data: bytes, status: int, headers: Headers) -> None:
        """``data`` was one whole answer, which the parser took as it is: with this status and all of these
        headers, no others, and the connection stays."""
        self._strangers = (self._strangers + 1) % 16
        if self._head is not None and self._strangers != 1:
            return
        self._head = None
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
        position = names.index(b"content-length")
        self._head = _Head(head[: found.start(1)], head[found.end(1) :], status, headers, position)
