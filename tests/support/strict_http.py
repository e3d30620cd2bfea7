"""A reader of HTTP/1.1 requests that knows the grammar and nothing else.

The judge of the gateway's own parser: it reads whole messages by regular expressions taken from
RFC 9112 and 9110, repairs nothing, has no limits and is not fast. Where the RFC lets a recipient
choose between repairing and refusing, it refuses.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, NamedTuple

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_REQUEST_LINE = re.compile(rb"(" + _TOKEN + rb") +([\x21-\x7e]+) +HTTP/1\.([01])\r\n")
_FIELD = re.compile(rb"(" + _TOKEN + rb"):[ \t]*([\t\x20-\x7e\x80-\xff]*)\r\n")
# What an extension says means nothing to us; only that it stays in its line.
_EXTENSION = rb"[ \t]*;[\t\x20-\x7e\x80-\xff]*"
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,16})(?:" + _EXTENSION + rb")?\r\n")
_STATUS_LINE = re.compile(rb"HTTP/1\.1 ([1-5][0-9]{2}) [\t\x20-\x7e]*\r\n")

_HTTP2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

Ending = Literal["end", "unfinished", "malformed"]


class Message(NamedTuple):
    """One whole request. ``headers``: names in lower case, values without white space around them."""

    method: bytes
    target: bytes
    version: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes

    def values(self, name: bytes) -> list[bytes]:
        return [value for key, value in self.headers if key == name]

    @property
    def keeps_alive(self) -> bool:
        said = {part.strip().lower() for value in self.values(b"connection") for part in value.split(b",")}
        return b"close" not in said and (self.version == b"1" or b"keep-alive" in said)


class Reading(NamedTuple):
    """``messages``: the whole requests at the beginning. ``ending``: what follows them: nothing, a
    beginning that can still become a request, or something that never will. ``rest``: that."""

    messages: list[Message]
    ending: Ending
    rest: bytes


class _MalformedError(Exception):
    pass


class _UnfinishedError(Exception):
    pass


@dataclass
class _Cursor:
    data: bytes
    at: int = 0

    def line(self, pattern: re.Pattern[bytes]) -> re.Match[bytes]:
        """The next line, which must have this shape; one without its end may still grow."""
        match = pattern.match(self.data, self.at)
        if match is None:
            end = self.data.find(b"\n", self.at)
            raise _UnfinishedError if end < 0 else _MalformedError
        self.at = match.end()
        return match

    def skip_empty_lines(self) -> None:
        """RFC 9112 §2.2: those before a request mean nothing, in whatever form."""
        while self.data[self.at : self.at + 1] in (b"\r", b"\n"):
            self.at += 1

    def take(self, size: int) -> bytes:
        if len(self.data) - self.at < size:
            raise _UnfinishedError
        self.at += size
        return self.data[self.at - size : self.at]

    def literal(self, expected: bytes) -> None:
        found = self.data[self.at : self.at + len(expected)]
        if not expected.startswith(found):
            raise _MalformedError
        self.take(len(expected))

    def fields(self) -> list[tuple[bytes, bytes]]:
        fields = []
        while not self.data.startswith(b"\r\n", self.at):
            if self.data[self.at :] in (b"", b"\r"):
                raise _UnfinishedError
            match = self.line(_FIELD)
            fields.append((match[1].lower(), match[2].rstrip(b" \t")))
        self.at += 2
        return fields


def read_requests(data: bytes) -> Reading:
    """Every request in ``data``, one after the other. What follows a request that closes its
    connection is still read: whether anybody should is for the caller to say."""
    cursor = _Cursor(data)
    messages: list[Message] = []
    while True:
        cursor.skip_empty_lines()
        start = cursor.at
        if start == len(data):
            return Reading(messages, "end", b"")
        try:
            messages.append(_request(cursor))
        except _UnfinishedError:
            return Reading(messages, "unfinished", data[start:])
        except _MalformedError:
            rest = data[start:]
            unfinished = _HTTP2.startswith(rest)  # nobody has to refuse half of it
            return Reading(messages, "unfinished" if unfinished else "malformed", rest)


def _request(cursor: _Cursor) -> Message:
    line = cursor.line(_REQUEST_LINE)
    headers = cursor.fields()
    message = Message(line[1], line[2], line[3], headers, b"")
    hosts = message.values(b"host")
    if len(hosts) > 1 or (not hosts and message.version == b"1"):
        raise _MalformedError  # RFC 9112 §3.2
    return message._replace(body=_body(cursor, message))


def _body(cursor: _Cursor, message: Message) -> bytes:
    """RFC 9112 §6.3, without its leniencies: one length, or chunked alone, never both."""
    lengths, codings = message.values(b"content-length"), message.values(b"transfer-encoding")
    if codings:
        if lengths or [coding.lower() for coding in codings] != [b"chunked"] or message.version == b"0":
            raise _MalformedError
        return _chunked(cursor)
    if not lengths:
        return b""
    if len(lengths) > 1 or not re.fullmatch(rb"[0-9]{1,19}", lengths[0]):
        raise _MalformedError
    return cursor.take(int(lengths[0]))


def _chunked(cursor: _Cursor) -> bytes:
    body = b""
    while size := int(cursor.line(_CHUNK)[1], 16):
        body += cursor.take(size)
        cursor.literal(b"\r\n")
    cursor.fields()  # trailers
    return body


class Answer(NamedTuple):
    """One whole response of the gateway."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes

    def value(self, name: bytes) -> bytes | None:
        """The only value of a header.

        Raises:
            ValueError: it is there more than once.
        """
        values = [value for key, value in self.headers if key == name]
        if len(values) > 1:
            raise ValueError(f"{name!r} more than once")
        return values[0] if values else None


def read_answers(data: bytes) -> list[Answer]:
    """The responses that the gateway wrote, one after the other.

    The answer to a HEAD has a length and no body; it is told apart by what follows it, which is
    another response or nothing, for no body in these tests begins like a response.

    Raises:
        ValueError: the bytes are no sequence of whole responses.
    """
    cursor, answers = _Cursor(data), []
    while cursor.at < len(data):
        try:
            status = int(cursor.line(_STATUS_LINE)[1])
            answer = Answer(status, cursor.fields(), b"")
            answers.append(answer._replace(body=_answer_body(cursor, answer)))
        except (_UnfinishedError, _MalformedError):
            raise ValueError(f"no response: {data[cursor.at : cursor.at + 200]!r}") from None
    return answers


def _answer_body(cursor: _Cursor, answer: Answer) -> bytes:
    rest = cursor.data[cursor.at : cursor.at + 7]
    if answer.status < 200 or answer.status in (204, 304) or rest in (b"", b"HTTP/1."):
        return b""
    coding, length = answer.value(b"transfer-encoding"), answer.value(b"content-length")
    if coding is not None:
        if coding != b"chunked" or length is not None:
            raise _MalformedError
        return _chunked(cursor)
    return cursor.take(int(length) if length is not None else len(cursor.data) - cursor.at)
