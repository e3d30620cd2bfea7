"""One process of a gateway: alone, or one of several workers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import structlog
import uvloop

from yuanlian.gateway.server import GatewayServer
from yuanlian.kit.observe.logs import Log
from yuanlian.runtime import memory
from yuanlian.runtime.edge_wiring import Edge, edge
from yuanlian.runtime.listening import Addresses, listen, server_for
from yuanlian.runtime.settings import Settings
from yuanlian.runtime.stopping import Stop, beside, heeding_hangups

FIRST_NEWS_S = 5.0
"""How long a start waits to hear what is revoked; without that, nobody's token is accepted."""

_log = structlog.get_logger("runtime")


def run(settings: Settings, log: Log, ready: Callable[[Addresses], None]) -> None:
    """Serves until SIGINT or SIGTERM.

    Raises:
        AddressInUseError, UnsupportedSettingError, RoutesRefusedError, ValueError: nothing was started.
    """
    uvloop.run(_serve(settings, log, ready))


async def _serve(settings: Settings, log: Log, ready: Callable[[Addresses], None]) -> None:
    stop = Stop(settings.drain_s)
    stop.ask_on_signals()
    built = edge(settings, log)
    async with contextlib.AsyncExitStack() as stack:
        admin = server_for(built.admin, built.observer)
        admin_url = await listen(admin, built.admin)
        stack.push_async_callback(admin.stop, 0.1)
        public = await stack.enter_async_context(running(built, stop))
        public_url = await listen(public, built.public)
        stack.enter_context(heeding_hangups(stop, built.reload))
        memory.settle()
        _log.info("gateway ready", public=public_url, admin=admin_url)
        ready(Addresses(public_url, admin_url))
        await stop.asked()
        _log.info("stopping")
    _log.info("stopped")


@contextlib.asynccontextmanager
async def running(built: Edge, stop: Stop) -> AsyncIterator[GatewayServer]:
    """The server of a gateway that can serve, to be told where to listen; it is drained at the end."""
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(built.connections)
        stack.push_async_callback(built.upstreams.stop)
        await built.upstreams.start()
        await stack.enter_async_context(beside((*built.chores, *built.watches)))
        await _hear(built, stop)
        server = server_for(built.public, built.observer)
        stack.push_async_callback(_drain, server, built, stop)
        yield server


async def _drain(server: GatewayServer, built: Edge, stop: Stop) -> None:
    parts = [server.stop(stop.deadline.remaining), built.tunnels.stop()]
    if built.websocket is not None:
        parts.append(built.websocket.stop())
    await asyncio.gather(*parts)


async def _hear(built: Edge, stop: Stop) -> None:
    asked = asyncio.ensure_future(stop.asked())
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(FIRST_NEWS_S):
            while built.revocations.feed.age_s is None and not asked.done():  # noqa: ASYNC110 - either
                await asyncio.sleep(0.02)
    asked.cancel()
    if built.revocations.feed.age_s is None:
        _log.warning("the auth service does not answer: no token is accepted until it does")
