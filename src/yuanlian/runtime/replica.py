"""One worker of a service: as its parent sees it, and what it does itself to be seen.

Its standard input is one end of a pair of sockets. Over it the worker says that it serves, and learns from
its end that the parent is gone, however that went.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Sequence
from time import monotonic

import structlog

from yuanlian.runtime.stopping import FORCED_S

_SERVING = b"."

_log = structlog.get_logger("runtime")


class Replica:
    """A worker as its parent sees it. ``buried``: done when it has ended and that was told."""

    buried: asyncio.Task[None]

    def __init__(
        self,
        index: int,
        process: asyncio.subprocess.Process,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self.index = index
        self.pid = process.pid
        self._process = process
        self._reader = reader
        self._writer = writer
        self._born = monotonic()

    @classmethod
    async def spawn(cls, index: int, command: Sequence[str]) -> Replica:
        """A group of its own, so that Ctrl-C in a terminal reaches the parent alone.

        Raises:
            OSError: the system has no files, processes or memory left for it.
        """
        ours, theirs = socket.socketpair()
        with theirs, contextlib.ExitStack() as unless_started:
            unless_started.enter_context(ours)
            process = await asyncio.create_subprocess_exec(*command, stdin=theirs.fileno(), process_group=0)
            unless_started.pop_all()
        ours.setblocking(False)
        return cls(index, process, *await asyncio.open_unix_connection(sock=ours))

    @property
    def age_s(self) -> float:
        return monotonic() - self._born

    async def serves(self) -> bool:
        """Waits until it does; False when it ended before."""
        return await self._reader.read(1) == _SERVING

    def send(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)

    async def ended(self) -> str:
        """Waits until it has, and says how."""
        code = await self._process.wait()
        self._writer.close()
        if code >= 0:
            return f"exit status {code}"
        with contextlib.suppress(ValueError):
            return signal.Signals(-code).name
        return f"signal {-code}"


# --- within the worker -----------------------------------------------------------------------------


def end_with_parent(drain_s: float) -> None:
    """From now on this process drains and ends when its parent is gone."""
    threading.Thread(target=_outlive_nobody, args=(drain_s,), name="parent", daemon=True).start()


def tell_parent() -> None:
    """This process serves."""
    with contextlib.suppress(BrokenPipeError):  # gone: the thread hears of it
        os.write(0, _SERVING)


def _outlive_nobody(drain_s: float) -> None:
    with contextlib.suppress(ConnectionResetError):  # gone before it read what we told it
        os.read(0, 1)
    _log.error("the parent is gone; draining")
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(drain_s + 2 * FORCED_S)
    os.kill(os.getpid(), signal.SIGKILL)  # a start that waits for a server, say, hears no signal
