"""One reading of a path. What two readers could take differently is refused, not repaired."""

from __future__ import annotations

from urllib.parse import unquote_to_bytes

from yuanlian.kit.errors import ValidationError
from yuanlian.kit.i18n import Text

_UNSAFE = Text("请求路径不合法", "The request path is not valid")


def safe_path(raw: bytes) -> str:
    """The decoded path of a request target.

    Raises:
        ValidationError: dot segments, empty segments, encoded or back slashes, control characters,
            a ``%`` that encodes nothing, or bytes that are no UTF-8.
    """
    if b"//" in raw or b"\\" in raw:
        raise ValidationError(_UNSAFE)
    if b"%" in raw:
        return _decoded(raw)
    if b"/." in raw and _has_dot_segment(raw):
        raise ValidationError(_UNSAFE)
    return raw.decode("ascii")  # llhttp lets nothing else through


def _decoded(raw: bytes) -> str:
    lower = raw.lower()
    if b"%2f" in lower or b"%5c" in lower:
        raise ValidationError(_UNSAFE)
    decoded = unquote_to_bytes(raw)
    if len(raw) - len(decoded) != 2 * raw.count(b"%"):
        raise ValidationError(_UNSAFE)
    if _has_dot_segment(decoded) or any(byte < 0x20 or byte == 0x7F for byte in decoded):
        raise ValidationError(_UNSAFE)
    try:
        return decoded.decode("utf-8")
    except UnicodeDecodeError:
        raise ValidationError(_UNSAFE) from None


def _has_dot_segment(path: bytes) -> bool:
    return any(segment in (b".", b"..") for segment in path.split(b"/"))
