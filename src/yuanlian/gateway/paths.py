"""One reading of a path, and of a host, for matching, limits, log and upstream alike.

Spellings that all readers take alike become one; what two readers could take differently is refused,
not repaired. Sources: RFC 3986 §6.2.2, Envoy "Configuring Envoy as an edge proxy", docs/contract.md.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from yuanlian.kit.errors import FieldError, ValidationError
from yuanlian.kit.i18n import Text

_LONGEST_HOST = 260
_HOST = re.compile(rb"(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")
_UNSAFE = Text("请求路径不合法", "The request path is not valid")
_LONGEST_REMEMBERED = 256

_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_REFUSED = frozenset([*range(0x20), 0x7F, *b"/\\"])
_REFUSED_PLAIN = b";"  # some servers cut such parameters off: to them, `/a;x` is `/a`
_PLAIN = re.compile(rb"[A-Za-z0-9._~/-]*")
# An escape, a lone `%`, or what RFC 3986 lets nobody write unescaped in a path.
_TO_RESPELL = re.compile(rb"%(?:[0-9A-Fa-f]{2})?|[^A-Za-z0-9._~/!$&'()*+,=:@%-]")
_ESCAPED_TWICE = re.compile(rb"%25[0-9A-Fa-f]{2}")  # somebody who decodes twice reads another path


class SafePath(NamedTuple):
    """``normal``: the one spelling, which is what an upstream gets. ``text``: its decoded meaning."""

    normal: bytes
    text: str


def safe_path(raw: bytes) -> SafePath:
    """Reads the path of a request target; ``safe_path(normal)`` is the same again.

    Escapes are written in upper case, escaped unreserved characters plainly, and characters that no
    path may hold unescaped as escapes.

    Raises:
        ValidationError: dot segments (also escaped, or before an escaped ``;``), empty segments,
            escaped or back slashes, a plain ``;``, control characters, double escapes, a ``%`` that
            encodes nothing, or bytes that are no UTF-8.
    """
    return _remembered(raw) if len(raw) <= _LONGEST_REMEMBERED else _read(raw)


def _read(raw: bytes) -> SafePath:
    plain = _PLAIN.fullmatch(raw) is not None
    normal = raw if plain else _TO_RESPELL.sub(_respell, raw)
    if b"//" in normal or _ESCAPED_TWICE.search(normal):
        raise _unsafe()
    if (b"/." in normal or b"/%3B" in normal) and any(map(_climbs, normal.split(b"/"))):
        raise _unsafe()
    try:
        return SafePath(normal, normal.decode("ascii") if plain else unquote_to_bytes(normal).decode("utf-8"))
    except UnicodeDecodeError:
        raise _unsafe() from None


_remembered = lru_cache(maxsize=4096)(_read)


def _respell(found: re.Match[bytes]) -> bytes:
    written = found[0]
    if written == b"%":
        raise _unsafe()
    byte = written[0] if len(written) == 1 else int(written[1:], 16)
    if byte in _REFUSED or written == _REFUSED_PLAIN:
        raise _unsafe()
    return bytes((byte,)) if byte in _UNRESERVED else b"%%%02X" % byte


def _climbs(segment: bytes) -> bool:
    """``.``, ``..``, and what is one of them or nothing to a server that decodes and then cuts
    parameters off."""
    name, escaped, _ = segment.partition(b"%3B")
    return name in (b".", b"..") or (escaped != b"" and not name)


def _unsafe() -> ValidationError:
    return ValidationError(_UNSAFE, [FieldError("path", _UNSAFE)])


def is_host(value: bytes) -> bool:
    """Whether a ``Host`` names a host: letters, digits, ``.``, ``-`` and ``_``, or an address in
    brackets, and perhaps a port (RFC 9110 §7.2, without the sub-delims that no host has)."""
    return len(value) <= _LONGEST_HOST and _matches(value)


@lru_cache(maxsize=1024)
def _matches(value: bytes) -> bool:
    return _HOST.fullmatch(value) is not None
