"""Request headers that several services take."""

from __future__ import annotations

from typing import Annotated

from litestar.params import HeaderParameter

# `$` of Python also matches before a last newline, and `\Z` is no ECMA-262, which OpenAPI asks for.
IDEMPOTENCY_KEY = r"^[A-Za-z0-9_.:\-]{1,64}$(?!\n)"
IdempotencyKey = Annotated[
    str | None,
    HeaderParameter(
        name="Idempotency-Key",
        pattern=IDEMPOTENCY_KEY,
        description="A repeat under the same key returns the first result",
    ),
]
