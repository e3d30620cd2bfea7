"""How the head of an instance's answer says where its body ends. Source: RFC 9112 §6.3, 9110 §7.6.1.

llhttp has refused what is ambiguous already: differing lengths, a length beside a transfer coding.
"""

from __future__ import annotations

from yuanlian.gateway.http import Headers, tokens
from yuanlian.gateway.response import BrokenResponseError

HEAD_BYTES = 64 * 1024
_FRAMING = frozenset({b"connection", b"content-length", b"transfer-encoding"})


def check_framing(headers: Headers, version: str, *, bodiless: bool) -> tuple[Headers, bool]:
    """The headers that may be passed on, and whether the body ends with the connection. ``bodiless``:
    the status or the method says that there is none.

    Raises:
        BrokenResponseError: another protocol; a transfer coding that we do not know, that is said twice,
            or that the version does not have.
    """
    delimited = bodiless
    chunked = False
    named: frozenset[bytes] = frozenset()
    for name, value in headers:
        if name not in _FRAMING:
            continue
        if name == b"connection":
            if value != b"keep-alive":  # nearly every answer's; the sink drops Keep-Alive itself
                named |= frozenset(tokens(value))
        elif name == b"content-length":
            delimited = True
        elif chunked or value.strip().lower() != b"chunked":
            raise BrokenResponseError("an unknown transfer coding")
        else:
            chunked = delimited = True
    if version != "1.1" and (version != "1.0" or chunked):
        raise BrokenResponseError(f"version {version}")
    if named:
        headers = [pair for pair in headers if pair[0] not in named or pair[0] in _FRAMING]
    return headers, not delimited


def is_too_large(headers: Headers) -> bool:
    return sum(len(name) + len(value) + 4 for name, value in headers) > HEAD_BYTES
