"""Lists that are bounded by a rule and always come whole."""

from __future__ import annotations

from yuanlian.kit.errors import ValidationError


def only_page(cursor: str | None) -> None:
    """Raises ``ValidationError`` for any cursor: such a list never gave one out."""
    if cursor is not None:
        raise ValidationError.of("cursor", "游标无效", "is not a cursor of this list")
