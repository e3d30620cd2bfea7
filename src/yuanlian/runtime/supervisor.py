"""``yuanlian run gateway --workers N``: one small parent, N gateways that share a port.

The parent opens one listening socket per worker (SO_REUSEPORT: the kernel spreads connections over them)
and keeps them open, so that a worker which ends leaves its queue of waiting connections to another, until
its successor takes over. Decision 0011.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import structlog
import uvloop

from yuanlian.gateway.admin import Admin
from yuanlian.gateway.server import BACKLOG
from yuanlian.kit.clock import SystemClock
from yuanlian.kit.observe.logs import Log
from yuanlian.kit.observe.merging import MergedMetrics
from yuanlian.kit.resilience.shared_memory import KEY_BYTES, shared_memory
from yuanlian.runtime.control import Adopt, Begin, Release, Reload
from yuanlian.runtime.edge_wiring import Edge, edge
from yuanlian.runtime.listening import Addresses, AddressInUseError, listen, server_for
from yuanlian.runtime.refusals import Refusal
from yuanlian.runtime.settings import Settings, revealed
from yuanlian.runtime.stopping import FORCED_S, Stop, beside, heeding_hangups
from yuanlian.runtime.worker_process import LAST_S, WorkerProcess

START_S = 30.0
"""What a worker may take until it accepts connections."""
LOOK_S = 1.0
"""How often a worker is asked for its metrics: what a killed one counted since then is lost."""
HUNG_S = 10.0
"""A worker that has not answered for so long serves nobody."""
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 15.0
SETTLED_S = 30.0
"""A worker that lived so long was fine; the pauses begin anew."""

_log = structlog.get_logger("runtime")


class WorkersFailedError(Refusal):
    """No worker got ready."""


def run(settings: Settings, log: Log, ready: Callable[[Addresses], None]) -> None:
    """Serves until SIGINT or SIGTERM.

    Raises:
        AddressInUseError, WorkersFailedError, UnsupportedSettingError, RoutesRefusedError, ValueError:
            nothing is left running.
    """
    uvloop.run(_serve(settings, log, ready))


async def _serve(settings: Settings, log: Log, ready: Callable[[Addresses], None]) -> None:
    stop = Stop(settings.drain_s + 2 * FORCED_S + LAST_S)
    stop.ask_on_signals()
    # Never started here: it refuses what no worker could follow, and knows what /routes shows.
    built = edge(settings, log)
    supervisor = Supervisor(settings, built, stop)
    async with contextlib.AsyncExitStack() as stack:
        admin = server_for(supervisor.admin, built.observer)
        admin_url = await listen(admin, supervisor.admin)
        stack.push_async_callback(admin.stop, 0.1)
        public_url = supervisor.open()
        stack.push_async_callback(supervisor.end)
        await supervisor.begin()
        await stack.enter_async_context(beside((supervisor.watch, *built.watches)))
        stack.enter_context(heeding_hangups(stop, supervisor.reload))
        _log.info("gateway ready", public=public_url, admin=admin_url, workers=settings.workers)
        ready(Addresses(public_url, admin_url))
        await stop.asked()
        _log.info("stopping")
    _log.info("stopped")


class Supervisor:
    """``built``: the gateway as its workers have it; of it only the tables and settings are used."""

    def __init__(self, settings: Settings, built: Edge, stop: Stop) -> None:
        self._settings = settings
        self._edge = built
        self._stop = stop
        self._clock = SystemClock()
        self._metrics = MergedMetrics()
        self._sockets: list[socket.socket] = []
        self._workers: list[WorkerProcess | None] = [None] * settings.workers
        self._keepers: list[asyncio.Task[None]] = []
        self._started = 0
        self._limits = shared_memory()
        self._limits_key = secrets.token_bytes(KEY_BYTES)
        admin = built.admin.handler
        assert isinstance(admin, Admin)
        handler = admin.showing(metrics=self._show_metrics, health=self._health)
        self.admin = replace(built.admin, handler=handler)

    # --- starting and ending ------------------------------------------------------------------

    def open(self) -> str:
        """Opens the listening sockets; returns the base URL.

        Raises:
            AddressInUseError
        """
        public = self._edge.public
        port = public.port
        try:
            for _ in self._workers:
                opened = _listening_socket(public.host, port)
                self._sockets.append(opened)
                port = opened.getsockname()[1]
        except OSError as error:
            raise AddressInUseError.of(public, error) from None
        return public.url(port)

    async def begin(self) -> None:
        """Starts the workers; returns when all accept connections, or when a stop is asked for.

        Raises:
            WorkersFailedError: one did not get there.
        """
        starting = asyncio.gather(*(self._start(index) for index in range(len(self._workers))))
        asked = asyncio.ensure_future(self._stop.asked())
        both: set[asyncio.Future[Any]] = {starting, asked}
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        asked.cancel()
        if self._stop.is_asked:
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
            return
        if not all(await starting):
            raise WorkersFailedError("a worker ended before it could serve; its log says why")
        self._keepers = [asyncio.create_task(self._keep(index)) for index in range(len(self._workers))]

    async def end(self) -> None:
        """Lets all workers drain, then ends those that do not."""
        self._stop.ask()
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        for opened in self._sockets:
            opened.close()
        os.close(self._limits)
        await asyncio.gather(*(self._end(worker) for worker in self._workers if worker is not None))

    async def _end(self, worker: WorkerProcess) -> None:
        worker.terminate()
        try:
            async with asyncio.timeout(self._settings.drain_s + 2 * FORCED_S):
                await worker.ended()
        except TimeoutError:
            _log.error("worker does not end; killed", pid=worker.pid)
            worker.kill()
            await worker.ended()

    async def reload(self) -> None:
        for worker in self._living():
            worker.send(Reload())
        await self._edge.reload()

    # --- one worker ---------------------------------------------------------------------------

    async def _start(self, index: int) -> WorkerProcess | None:
        """A worker that accepts connections; None when it did not get there."""
        self._started += 1
        name = f"{index}.{self._started}"
        sockets = [opened.fileno() for opened in self._sockets]
        try:
            worker = await WorkerProcess.spawn(name, [*sockets, self._limits])
        except OSError as error:
            _log.error("no worker can be started", worker=index, reason=str(error))
            return None
        self._workers[index] = worker
        worker.send(Begin(revealed(self._settings), sockets, index, self._limits, self._limits_key))
        try:
            async with asyncio.timeout(START_S):
                if await worker.got_ready():
                    return worker
        except TimeoutError:
            _log.error("worker does not get ready; killed", worker=index, pid=worker.pid)
            worker.kill()
        await self._buried(worker)
        return None

    async def _keep(self, index: int) -> None:
        """Has a worker at that place, as long as we serve."""
        pause = FIRST_PAUSE_S
        while True:
            worker = self._workers[index]
            if worker is not None:
                await worker.left()
                self._cover()
                await self._buried(worker)
            self._workers[index] = None
            if self._stop.is_asked:
                return
            if worker is not None and worker.age_s > SETTLED_S:
                pause = FIRST_PAUSE_S
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_S)
            successor = await self._start(index)
            if successor is not None:
                _log.info("worker replaced", worker=successor.name, pid=successor.pid)
                for other in self._living():
                    if other is not successor:
                        other.send(Release(index))
                self._cover()

    def _cover(self) -> None:
        """What waits at the sockets of workers that are gone is for one who lives."""
        deputy = next(iter(self._living()), None)
        if deputy is None or self._stop.is_asked:
            return
        for index, worker in enumerate(self._workers):
            if worker is None or not worker.is_ready:
                deputy.send(Adopt(index))

    async def _buried(self, worker: WorkerProcess) -> None:
        """Waits until it has ended, and says so."""
        how = await worker.ended()
        if worker.snapshot is not None:
            self._metrics.update(worker.name, worker.snapshot)
        self._metrics.ended(worker.name)
        if not self._stop.is_asked:
            _log.error("worker ended", worker=worker.name, pid=worker.pid, how=how)

    def _living(self) -> list[WorkerProcess]:
        return [worker for worker in self._workers if worker is not None and worker.is_ready]

    # --- what they know, together -------------------------------------------------------------

    async def watch(self) -> None:
        """Keeps the last metrics of every worker at hand, and ends one that no longer answers."""
        while True:
            await asyncio.sleep(LOOK_S)
            await self._refresh()
            for worker in self._living():
                if worker.silent_s > HUNG_S:
                    _log.error("worker does not answer; killed", worker=worker.name, pid=worker.pid)
                    worker.kill()

    async def _refresh(self) -> None:
        await asyncio.gather(*(worker.ask_metrics() for worker in self._living()))
        for worker in self._living():
            if worker.snapshot is not None:
                self._metrics.update(worker.name, worker.snapshot)

    async def _show_metrics(self) -> bytes:
        await self._refresh()
        self._metrics.update("supervisor", self._edge.metrics.snapshot())
        return self._metrics.render()

    async def _health(self) -> dict[str, Any]:
        """Every check of every worker, and whether all of them are there."""
        living = self._living()
        answers = await asyncio.gather(*(worker.ask_health() for worker in living))
        checks: dict[str, Any] = {}
        for worker, answer in zip(living, answers, strict=True):
            for name, check in (answer or {"checks": {}})["checks"].items():
                checks[f"worker-{worker.name.partition('.')[0]}.{name}"] = check
        serving = sum(answer is not None for answer in answers)
        healthy = serving == len(self._workers)
        now = self._clock.now_ms()
        told = f"{serving} of {len(self._workers)} serve"
        checks["workers"] = {
            "status": "healthy" if healthy else "unhealthy",
            "duration": 0,
            "timestamp": now,
            "detail" if healthy else "error": told,
        }
        all_healthy = all(check["status"] == "healthy" for check in checks.values())
        return {
            "status": "healthy" if all_healthy else "unhealthy",
            "checks": dict(sorted(checks.items())),
            "timestamp": now,
        }


def _listening_socket(host: str, port: int) -> socket.socket:
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    return socket.create_server(address, family=family, backlog=BACKLOG, reuse_port=True)
