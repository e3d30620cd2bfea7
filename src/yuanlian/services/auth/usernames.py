"""One spelling per username."""

from __future__ import annotations

import re
import unicodedata

PATTERN = re.compile(r"[a-z0-9一-鿿][a-z0-9一-鿿._@+-]{1,63}")


def normalised(username: str) -> str:
    """Unicode NFKC, lower case, trimmed: what is stored and looked up."""
    return unicodedata.normalize("NFKC", username).strip().lower()


def acceptable(username: str) -> bool:
    """2 to 64 letters, digits or Chinese characters, with ``. _ @ + -`` after the first."""
    return PATTERN.fullmatch(username) is not None
