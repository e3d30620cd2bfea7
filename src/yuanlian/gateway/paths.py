"""One reading of a path, and of a host. What two readers could take differently is refused, not repaired."""

from __future__ import annotations

import re
from functools import lru_cache
from urllib.parse import unquote_to_bytes

from yuanlian.kit.errors import FieldError, ValidationError
from yuanlian.kit.i18n import Text

_LONGEST_HOST = 260
_HOST = re.compile(rb"(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")
_UNSAFE = Text("请求路径不合法", "The request path is not valid")


def _unsafe() -> ValidationError:
    return ValidationError(_UNSAFE, [FieldError("path", _UNSAFE)])


def safe_path(raw: bytes) -> str:
    """The decoded path of a request target.

    Raises:
        ValidationError: dot segments, empty segments, encoded or back slashes, control characters,
            a ``%`` that encodes nothing, or bytes that are no UTF-8.
    """
    if b"//" in raw or b"\\" in raw:
        raise _unsafe()
    if b"%" in raw:
        return _decoded(raw)
    if b"/." in raw and _has_dot_segment(raw):
        raise _unsafe()
    return raw.decode("ascii")  # llhttp lets nothing else through


def _decoded(raw: bytes) -> str:
    lower = raw.lower()
    if b"%2f" in lower or b"%5c" in lower:
        raise _unsafe()
    decoded = unquote_to_bytes(raw)
    if len(raw) - len(decoded) != 2 * raw.count(b"%"):
        raise _unsafe()
    if _has_dot_segment(decoded) or any(byte < 0x20 or byte == 0x7F for byte in decoded):
        raise _unsafe()
    try:
        return decoded.decode("utf-8")
    except UnicodeDecodeError:
        raise _unsafe() from None


def _has_dot_segment(path: bytes) -> bool:
    return any(segment in (b".", b"..") for segment in path.split(b"/"))


def is_host(value: bytes) -> bool:
    """Whether a ``Host`` names a host: letters, digits, ``.``, ``-`` and ``_``, or an address in
    brackets, and perhaps a port (RFC 9110 §7.2, without the sub-delims that no host has)."""
    return len(value) <= _LONGEST_HOST and _matches(value)


@lru_cache(maxsize=1024)
def _matches(value: bytes) -> bool:
    return _HOST.fullmatch(value) is not None
