"""A worker of ``yuanlian run gateway --workers N``: ``python -m yuanlian.runtime.worker DESCRIPTOR``.

It lives as long as its supervisor: when that is gone, however it went, the worker drains and ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sys
from collections.abc import Coroutine
from typing import Any

import structlog
import uvloop

from yuanlian.gateway.server import GatewayServer
from yuanlian.kit.clock import SystemClock
from yuanlian.kit.observe.logs import configure
from yuanlian.kit.resilience.shared_memory import SharedMemoryRateLimiter
from yuanlian.runtime import memory
from yuanlian.runtime.control import (
    Adopt,
    AskHealth,
    AskMetrics,
    Begin,
    Channel,
    HealthAnswer,
    Leaving,
    MetricsAnswer,
    Order,
    Ready,
    Release,
    Reload,
    Report,
)
from yuanlian.runtime.edge_process import running
from yuanlian.runtime.edge_wiring import Edge, edge
from yuanlian.runtime.settings import Settings
from yuanlian.runtime.stopping import Stop

_log = structlog.get_logger("runtime")


class Worker:
    def __init__(
        self,
        channel: Channel[Report, Order],
        built: Edge,
        server: GatewayServer,
        sockets: list[socket.socket],
        stop: Stop,
    ) -> None:
        self._channel = channel
        self._edge = built
        self._server = server
        self._sockets = sockets
        self._stop = stop
        self._tasks: set[asyncio.Task[None]] = set()

    async def obey(self) -> None:
        """Until the supervisor is gone; then drains."""
        while (order := await self._channel.receive()) is not None:
            self._do(self._follow(order))
        if not self._stop.is_asked:
            _log.error("the supervisor is gone; draining")
        self._stop.ask()

    async def _follow(self, order: Order) -> None:
        match order:
            case AskMetrics():
                self._channel.send(MetricsAnswer(self._edge.metrics.snapshot()))
            case AskHealth():
                self._channel.send(HealthAnswer(await self._edge.health.report()))
            case Adopt(index):
                await self._server.accept_from(self._sockets[index])
            case Release(index):
                self._server.leave(self._sockets[index])
            case Reload():
                await self._edge.reload()

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _serve(control: socket.socket) -> None:
    channel: Channel[Report, Order] = await Channel.over(control, Order)
    begin = await channel.receive()
    if not isinstance(begin, Begin):
        return  # the supervisor was gone before it said anything
    settings = Settings(**begin.settings)
    log = configure("gateway", settings.log_level, console=sys.stdout.isatty(), shared=True)
    sockets = [socket.socket(fileno=descriptor) for descriptor in begin.sockets]
    stop = Stop(settings.drain_s)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.ask)
    limiter = SharedMemoryRateLimiter(SystemClock(), begin.limits, begin.limits_key)
    built = edge(settings, log, limiter)
    async with running(built, stop) as server:
        await server.accept_from(sockets[begin.own])
        memory.settle()
        channel.send(Ready())
        obeying = asyncio.create_task(Worker(channel, built, server, sockets, stop).obey())
        await stop.asked()
        channel.send(Leaving())
        # Ours are copies: a socket is closed when the last one is, and its queue is reset with it.
        for one in sockets:
            one.close()
    channel.send(MetricsAnswer(built.metrics.snapshot()))
    await channel.flush()
    obeying.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await obeying
    channel.close()


def main(arguments: list[str]) -> None:
    memory.start_up()
    for number in (signal.SIGINT, signal.SIGHUP):  # the supervisor hears them, and decides
        signal.signal(number, signal.SIG_IGN)
    uvloop.run(_serve(socket.socket(fileno=int(arguments[0]))))


if __name__ == "__main__":
    main(sys.argv[1:])
