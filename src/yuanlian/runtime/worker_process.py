"""A worker as its supervisor sees it."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from time import monotonic
from typing import Any

from yuanlian.kit.observe.snapshot import Snapshot
from yuanlian.runtime.control import (
    AskHealth,
    AskMetrics,
    Channel,
    HealthAnswer,
    Leaving,
    MetricsAnswer,
    Order,
    Ready,
    Report,
)

ANSWER_S = 2.0
LAST_S = 5.0


class WorkerProcess:
    """``name``: not used again. ``snapshot``: the last metrics it sent."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], channel: Channel[Order, Report]) -> None:
        self.name = name
        self.pid = process.pid
        self.snapshot: Snapshot | None = None
        self._process = process
        self._channel = channel
        self._born = self._heard = monotonic()
        self._ready = asyncio.Event()
        self._leaving = asyncio.Event()
        self._gone = asyncio.Event()
        self._metrics_waiting: list[asyncio.Future[None]] = []
        self._health_waiting: list[asyncio.Future[dict[str, Any]]] = []
        self._listening = asyncio.create_task(self._listen())

    @classmethod
    async def spawn(cls, name: str, sockets: Sequence[int]) -> WorkerProcess:
        """Starts it; it waits for ``Begin``. A group of its own, so that Ctrl-C in a terminal reaches the
        supervisor alone.

        Raises:
            OSError: the system has no files, processes or memory left for it.
        """
        ours, theirs = socket.socketpair()
        with theirs, contextlib.ExitStack() as unless_started:
            unless_started.enter_context(ours)
            process = subprocess.Popen(  # noqa: S603, ASYNC220 - ourselves; it takes a millisecond
                [sys.executable, "-m", "yuanlian.runtime.worker", str(theirs.fileno())],
                pass_fds=(theirs.fileno(), *sockets),
                stdin=subprocess.DEVNULL,
                process_group=0,
            )
            unless_started.pop_all()
        channel: Channel[Order, Report] = await Channel.over(ours, Report)
        return cls(name, process, channel)

    @property
    def is_ready(self) -> bool:
        return self._ready.is_set() and not self._leaving.is_set()

    @property
    def age_s(self) -> float:
        return monotonic() - self._born

    @property
    def silent_s(self) -> float:
        return monotonic() - self._heard

    def send(self, order: Order) -> None:
        self._channel.send(order)

    def terminate(self) -> None:
        """Asks it to drain."""
        self._process.terminate()

    def kill(self) -> None:
        self._process.kill()

    async def left(self) -> None:
        """Waits until it accepts no more, for whatever reason."""
        await self._leaving.wait()

    async def got_ready(self) -> bool:
        """Whether it accepts connections; False when it ended before."""
        leaving = asyncio.ensure_future(self._leaving.wait())
        ready = asyncio.ensure_future(self._ready.wait())
        await asyncio.wait({leaving, ready}, return_when=asyncio.FIRST_COMPLETED)
        leaving.cancel()
        ready.cancel()
        return self.is_ready

    async def ended(self) -> str:
        """Waits until it has, and says how."""
        await self._gone.wait()
        code = await asyncio.to_thread(self._wait)
        if code >= 0:
            return f"exit status {code}"
        with contextlib.suppress(ValueError):
            return signal.Signals(-code).name
        return f"signal {-code}"

    async def ask_metrics(self) -> None:
        """Brings ``snapshot`` up to date; without an answer in time it stays as it is."""
        answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._metrics_waiting.append(answer)
        self.send(AskMetrics())
        await asyncio.wait([answer], timeout=ANSWER_S)

    async def ask_health(self) -> dict[str, Any] | None:
        """None when it does not answer in time."""
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._health_waiting.append(answer)
        self.send(AskHealth())
        await asyncio.wait([answer], timeout=2 * ANSWER_S)
        return answer.result() if answer.done() and not answer.cancelled() else None

    def _wait(self) -> int:
        """One who says nothing more ends; or is ended."""
        try:
            return self._process.wait(LAST_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    async def _listen(self) -> None:
        try:
            while (report := await self._channel.receive()) is not None:
                self._hear(report)
        finally:
            self._leaving.set()
            self._gone.set()
            self._channel.close()
            for waiting in (*_taken(self._metrics_waiting), *_taken(self._health_waiting)):
                waiting.cancel()

    def _hear(self, report: Report) -> None:
        self._heard = monotonic()
        match report:
            case Ready():
                self._ready.set()
            case Leaving():
                self._leaving.set()
            case MetricsAnswer(snapshot):
                self.snapshot = snapshot
                for answered in _taken(self._metrics_waiting):
                    answered.set_result(None)
            case HealthAnswer(health):
                for told in _taken(self._health_waiting):
                    told.set_result(health)


def _taken(waiting: list[Any]) -> list[Any]:
    taken = list(waiting)
    waiting.clear()
    return [one for one in taken if not one.done()]
