"""One spelling per username."""

from __future__ import annotations

import re
import unicodedata

from yuanlian.kit.errors import ValidationError

PATTERN = re.compile(r"[a-z0-9一-鿿][a-z0-9一-鿿._@+-]{1,63}")


def normalised(username: str) -> str:
    """Unicode NFKC, lower case, trimmed: what is stored and looked up."""
    return unicodedata.normalize("NFKC", username).strip().lower()


def check_username(username: str) -> None:
    """2 to 64 letters, digits or Chinese characters, with ``. _ @ + -`` after the first.

    Raises:
        ValidationError: on ``username``.
    """
    if PATTERN.fullmatch(username) is None:
        raise ValidationError.of(
            "username",
            "应为 2 到 64 个字母、数字或汉字，可含 . _ @ + -",
            "must be 2 to 64 letters, digits or Chinese characters, with . _ @ + - in between",
        )
