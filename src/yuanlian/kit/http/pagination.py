"""Keyset pagination: ``?limit=`` 1-200 (50), ``?cursor=`` from the previous page. CONTRACT §3."""

from __future__ import annotations

import base64
from datetime import date
from typing import Annotated, Any

import msgspec
from litestar.params import QueryParameter

from yuanlian.kit.errors import ValidationError

Limit = Annotated[int, QueryParameter(ge=1, le=200, name="limit")]
DEFAULT_LIMIT = 50
MAX_CURSOR = 512
_INT64 = msgspec.Meta(ge=-(2**63), le=2**63 - 1)


def encode_cursor(*key: str | int, of: str) -> str:
    """The last row's sort key, opaque to clients. ``of``: the list it belongs to."""
    return base64.urlsafe_b64encode(msgspec.json.encode([of, *key])).rstrip(b"=").decode()


def decode_cursor(cursor: str | None, *types: type, of: str) -> tuple[Any, ...] | None:
    """The sort key in a cursor that we made for this list, or None for the first page. ``types``: of
    its parts, ``str``, ``int`` or ``date`` (kept as ISO).

    Raises:
        ValidationError: the cursor is not one of this list.
    """
    if cursor is None:
        return None
    try:
        raw = base64.urlsafe_b64decode(cursor[:MAX_CURSOR] + "=" * (-len(cursor) % 4))
        name, *values = msgspec.json.decode(raw, type=list[Annotated[int, _INT64] | str])
        parts = [_part(value, type_) for value, type_ in zip(values, types, strict=True)]
    # binascii.Error and UnicodeDecodeError are ValueErrors, as are msgspec's and a wrong length.
    except (ValueError, TypeError):
        name, parts = "", []
    if name != of:
        raise ValidationError.of("cursor", "游标无效", "is not a cursor of this list")
    return tuple(parts)


def _part(value: int | str, type_: type) -> Any:
    if type_ is date:
        return date.fromisoformat(str(value))
    if not isinstance(value, type_):
        raise TypeError(value)
    return value


def only_page(cursor: str | None) -> None:
    """For a list that a rule bounds and that always comes whole.

    Raises:
        ValidationError: there is a cursor; such a list never gave one out.
    """
    if cursor is not None:
        raise ValidationError.of("cursor", "游标无效", "is not a cursor of this list")
