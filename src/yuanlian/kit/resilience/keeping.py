"""Work beside the requests that must not end: a fault in one round must not leave a process half alive."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic

import structlog

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 5.0
SETTLED_S = 60.0
"""Work that went on for so long before it failed had got over its earlier faults."""

_log = structlog.get_logger("keeping")


async def kept(name: str, work: Callable[[], Awaitable[None]]) -> None:
    """``work``, until it returns or this is cancelled. When it raises, that is logged as critical and it is
    begun anew after a pause, so it must be of the kind that can be: a loop that keeps nothing in itself.
    What a loop expects (a server that is away) it handles itself; this is for what nobody thought of."""
    failures = 0
    while True:
        begun = monotonic()
        try:
            await work()
        except (Exception, asyncio.CancelledError) as error:  # whatever it was: loud, and not the end of it
            if is_to_end(error):
                raise
            failures = 1 if monotonic() - begun > SETTLED_S else failures + 1
            _log.critical("failed, begun anew", work=name, retry_in_s=pause_after(failures), exc_info=True)
            await asyncio.sleep(pause_after(failures))
        else:
            return


def is_to_end(error: BaseException) -> bool:
    """Whether this error is the cancellation of the present task. A ``CancelledError`` may also come from
    something that it awaited and that others have cancelled: for the task that is an error like others."""
    task = asyncio.current_task()
    return isinstance(error, asyncio.CancelledError) and (task is None or task.cancelling() > 0)


def pause_after(failures: int) -> float:
    """Seconds to stand still after so many failures in a row: doubling, at most ``LONGEST_PAUSE_S``."""
    return min(FIRST_PAUSE_S * 2.0 ** min(failures - 1, 10), LONGEST_PAUSE_S)
