"""Waiting that a signal can cut short."""

from __future__ import annotations

import asyncio
import contextlib

FIRST_PAUSE = 0.1
MAX_PAUSE = 5.0


async def set_within(event: asyncio.Event, seconds: float) -> bool:
    """True as soon as ``event`` is set, False when it was not within ``seconds``."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)
        return True
    return False


def pause_after(failures: int) -> float:
    """Seconds to stand still after so many failures in a row: doubling, at most 5."""
    return min(FIRST_PAUSE * 2.0 ** min(failures - 1, 10), MAX_PAUSE)
