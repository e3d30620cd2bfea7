"""What a client sent last: its header block is mostly the same again, and read already.

A client on a kept connection repeats its headers, token included, from request to request. What they
mean is a function of their bytes alone, so the second time a comparison replaces the parser. Everything
that is not exactly a line of ``_LINE`` before exactly the block read last goes through the parser.
The block belongs to one connection: nothing of it is shared between clients, and it ends with the
connection. docs/decisions/0015.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

from yuanlian.gateway.http import Headers, Request

if TYPE_CHECKING:
    from yuanlian.gateway.forwarding import WrittenHeaders
    from yuanlian.gateway.origin import Origin

_LONGEST = 2048
_LONGEST_LINE = 256
_END = b"\r\n\r\n"
# Narrower than the parser, so that both read it alike: RFC 3986's characters of a path and a query.
_CHARACTERS = rb"A-Za-z0-9._~!$&'()*+,;=:@%/-"
_LINE = re.compile(
    rb"(GET|HEAD|OPTIONS|DELETE) ((/[%b]*)(?:\?([%b]*))?) HTTP/1\.1" % (_CHARACTERS, b"?" + _CHARACTERS)
)
_METHODS = {b"GET": "GET", b"HEAD": "HEAD", b"OPTIONS": "OPTIONS", b"DELETE": "DELETE"}
# What announces more than the head, or another protocol, or depends on who asks for it.
_NOT_PLAIN = frozenset({b"content-length", b"expect", b"transfer-encoding", b"upgrade"})


class HeaderBlock:
    """``block``: from the end of the request line to the end of the head. ``headers``, ``first`` and
    ``keep_alive``: what the parser and our rules made of it; not to be changed. ``origin``: where the
    connection's requests with it come from. ``written``: what became of it on the way upstream, last time."""

    __slots__ = ("block", "first", "headers", "keep_alive", "origin", "written")

    def __init__(self, block: bytes, request: Request) -> None:
        self.block = block
        self.headers: Headers = request.headers
        self.first = request.first
        self.keep_alive = request.keep_alive
        self.origin: Origin | None = None
        self.written: WrittenHeaders | None = None

    @classmethod
    def of(cls, data: bytes, request: Request) -> HeaderBlock | None:
        """Of ``request``, which was read without objection and has no body, when ``data`` is its head and
        nothing else; None when it is not to be remembered."""
        line, _, rest = data.partition(b"\r\n")
        block = b"\r\n" + rest
        lines = block.count(b"\r\n")
        if (
            len(block) > _LONGEST
            or block.find(_END) != len(block) - len(_END)
            or _LINE.fullmatch(line) is None
        ):
            return None
        plain_ends = block.count(b"\n") == lines and block.count(b"\r") == lines
        if not plain_ends or lines != len(request.headers) + 2 or not _NOT_PLAIN.isdisjoint(request.first):
            return None
        return cls(block, request)


def read_line(line: bytes) -> tuple[str, bytes, bytes, bytes] | None:
    """Method, target, path and query of a request line that cannot be read in two ways; None of any other,
    which the parser has to judge."""
    return _remembered(line) if len(line) <= _LONGEST_LINE else _read(line)


def _read(line: bytes) -> tuple[str, bytes, bytes, bytes] | None:
    found = _LINE.fullmatch(line)
    if found is None:
        return None
    method, target, path, query = found.groups(b"")
    return _METHODS[method], target, path, query


_remembered = lru_cache(maxsize=4096)(_read)
