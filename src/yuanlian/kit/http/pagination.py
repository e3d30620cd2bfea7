"""Keyset pagination: ``?limit=`` 1-200 (50), ``?cursor=`` from the previous page. CONTRACT §3."""

from __future__ import annotations

import base64
from typing import Annotated

import msgspec
from litestar.params import QueryParameter

from yuanlian.kit.errors import ValidationError

Limit = Annotated[int, QueryParameter(ge=1, le=200, name="limit")]
DEFAULT_LIMIT = 50


def encode_cursor(*key: str | int) -> str:
    """The last row's sort key, opaque to clients."""
    return base64.urlsafe_b64encode(msgspec.json.encode(key)).rstrip(b"=").decode()


def decode_cursor(cursor: str | None, *types: type) -> tuple[str | int, ...] | None:
    """The sort key in a cursor that we made, or None for the first page.

    Raises:
        ValidationError: the cursor is not one of ours.
    """
    if cursor is None:
        return None
    try:
        raw = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        values = msgspec.json.decode(raw, type=list[str | int])
    except (ValueError, msgspec.DecodeError):
        values = []
    if len(values) != len(types) or not all(map(isinstance, values, types)):
        raise ValidationError.of("cursor", "游标无效", "is not a cursor of this list")
    return tuple(values)
