"""The second level: what all processes of the platform share."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol


class Found(NamedTuple):
    """``fresh``: False once it is only good for being served while the source fails."""

    blob: bytes
    fresh: bool


Invalidated = Callable[[str, str | None], None]
"""Called with a prefix and an id, or None for all ids under it."""


class Store(Protocol):
    """``prefix`` and ``id_`` name an entry (``keys``); ``version`` is the number of the prefix's present
    generation, and part of the key: what was stored under an older one is never found again.

    Raises (all): ``ServiceUnavailableError`` when the store does not answer. The cache does without.
    """

    async def version(self, prefix: str) -> int: ...

    async def find(self, prefix: str, id_: str, version: int) -> Found | None: ...

    async def claim(self, prefix: str, id_: str, version: int, token: str) -> bool:
        """Whether ``token`` may load the entry now; nobody else may, until it is put, dropped or too old."""
        ...

    async def put(
        self, prefix: str, id_: str, version: int, token: str, blob: bytes, *, fresh_s: float, stale_s: float
    ) -> bool:
        """Stores what was loaded under a claim; False when that was lost, because the entry was dropped
        meanwhile."""
        ...

    async def release(self, prefix: str, id_: str, version: int, token: str) -> None:
        """Gives a claim back with nothing loaded."""
        ...

    async def drop(self, prefix: str, id_: str, version: int) -> None: ...

    async def drop_all(self, prefix: str) -> None:
        """Begins a new generation; costs the same however many entries there are."""
        ...

    def listen(
        self, invalidated: Invalidated, on_open: Callable[[], None], on_lost: Callable[[], None]
    ) -> None:
        """``invalidated``: after every drop, in every process. ``on_open``: from now on none is missed.
        ``on_lost``: some may be."""
        ...
