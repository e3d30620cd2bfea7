"""How a process is asked to stop or to read its files again, and how long everything may then take."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Iterator
from functools import partial
from typing import Any

import structlog

from yuanlian.kit.resilience.deadline import Deadline
from yuanlian.kit.resilience.keeping import kept

LAST_GRACE_S = 0.2
"""What a part may take to end when requests have used up all of ``drain_s``."""
FORCED_S = 0.8
"""After ``drain_s`` and this, threads that still compute are left behind."""

Chore = Callable[[], Coroutine[Any, Any, None]]

_log = structlog.get_logger("runtime")


class Stop:
    """Asked for once; from then on everything under way shares ``drain_s`` seconds."""

    def __init__(self, drain_s: float) -> None:
        self._drain_s = drain_s
        self._asked = asyncio.Event()
        self.deadline = Deadline.after(drain_s)

    def ask(self) -> None:
        if self._asked.is_set():
            return
        self.deadline = Deadline.after(self._drain_s)
        self._asked.set()
        # A spreadsheet that a thread still parses, say: Python would wait for it, and it is nobody's.
        forced = threading.Timer(self._drain_s + FORCED_S, _leave)
        forced.daemon = True
        forced.start()

    def ask_on_signals(self) -> None:
        """SIGINT and SIGTERM ask."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.ask)

    @property
    def is_asked(self) -> bool:
        return self._asked.is_set()

    async def asked(self) -> None:
        await self._asked.wait()

    async def end(self, part: str, stop: Callable[[], Awaitable[None]]) -> None:
        """Ends a part, or cuts it when the time is up."""
        try:
            async with asyncio.timeout(max(self.deadline.remaining, LAST_GRACE_S)):
                await stop()
        except TimeoutError:
            _log.warning("cut while at work; its messages will be delivered again", part=part)


def _leave() -> None:
    _log.warning("stopped; threads still at work were left behind")
    os._exit(0)  # what was acknowledged is on disk: the platform may end like this at any moment


@contextlib.contextmanager
def heeding_hangups(stop: Stop, reload: Chore) -> Iterator[None]:
    """SIGHUP: the operator has changed a file, or has closed the terminal that we run in."""
    loop = asyncio.get_running_loop()
    in_terminal = os.isatty(0)
    reloads: set[asyncio.Task[None]] = set()

    def heed() -> None:
        if in_terminal and not os.isatty(0):
            stop.ask()
            return
        task = asyncio.create_task(reload())
        reloads.add(task)  # the loop itself would forget it
        task.add_done_callback(reloads.discard)

    loop.add_signal_handler(signal.SIGHUP, heed)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGHUP)


@contextlib.asynccontextmanager
async def beside(chores: Iterable[Chore]) -> AsyncIterator[None]:
    """What goes on beside the requests, and ends with them; what fails is told and begun anew."""
    tasks = [asyncio.create_task(kept(_name_of(chore), chore)) for chore in chores]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _name_of(chore: Chore) -> str:
    work = chore.func if isinstance(chore, partial) else chore
    return f"{work.__module__}.{work.__qualname__}"


async def one_after_another(chores: Iterable[Chore]) -> None:
    for chore in chores:
        await chore()
