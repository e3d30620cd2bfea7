"""Starts the embedded platform in order, keeps it running, and ends it without dropping anything."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import structlog
import uvloop

from yuanlian.gateway.routes import RouteTable
from yuanlian.gateway.routes_file import RoutesError
from yuanlian.gateway.server import GatewayServer
from yuanlian.kit.database.database import Database
from yuanlian.kit.observe.logs import Log
from yuanlian.kit.registry.registry import HEARTBEAT_MS
from yuanlian.runtime import memory
from yuanlian.runtime.schema import upgrade
from yuanlian.runtime.settings import Settings
from yuanlian.runtime.wiring import DEFAULT_ROUTES, Embedded, embedded

SWITCH_INTERVAL_S = 0.002
"""The event loop shares the interpreter with the database's threads: let it have its turn soon."""

_log = structlog.get_logger("runtime")


@dataclass(frozen=True)
class Addresses:
    public: str
    admin: str


class AddressInUseError(Exception):
    """A port is taken; the message says which and what to do."""


Ready = Callable[[Addresses], None]
Load = Callable[[Database], Awaitable[object]]


def run(settings: Settings, log: Log, *, load: Load | None = None, ready: Ready | None = None) -> None:
    """Serves until SIGINT or SIGTERM. ``load`` fills an empty database before anything listens.

    Raises:
        AddressInUseError: nothing was started.
    """
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    uvloop.run(_serve(settings, log, load, ready))


async def _serve(settings: Settings, log: Log, load: Load | None, ready: Ready | None) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    platform = embedded(settings, log)
    platform.database.migrate(upgrade)
    if load is not None:
        await load(platform.database)
    async with _running(platform) as addresses:
        memory.settle()
        loop.add_signal_handler(signal.SIGHUP, _reload_routes, platform)
        _log.info("platform ready", public=addresses.public, admin=addresses.admin)
        if ready is not None:
            ready(addresses)
        await stopping.wait()
        _log.info("stopping")
    _log.info("stopped")


@contextlib.asynccontextmanager
async def _running(platform: Embedded) -> AsyncIterator[Addresses]:
    """Inside out: what serves last starts last and stops first."""
    settings = platform.settings
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(platform.database.close)
        for module in platform.modules:
            if module.start is not None:
                await module.start()
            if module.stop is not None:
                stack.push_async_callback(module.stop)
        public = GatewayServer(platform.gateway, platform.observer)
        admin = GatewayServer(platform.admin, platform.observer)
        # Ports before workers: a platform that cannot listen must not handle messages.
        admin_url = await _listen(admin, settings.admin_host, settings.admin_port, "YUANLIAN_ADMIN_PORT")
        stack.push_async_callback(admin.stop, 0.5)
        await platform.bus.start()
        stack.push_async_callback(platform.bus.stop)
        await platform.relay.start()
        stack.push_async_callback(platform.relay.stop)
        await platform.register()
        heartbeats = asyncio.create_task(_keep_registered(platform))
        stack.push_async_callback(_cancel, heartbeats)
        public_url = await _listen(public, settings.host, settings.port, "YUANLIAN_PORT")
        stack.push_async_callback(_drain, public, platform, settings.drain_s)
        yield Addresses(public_url, admin_url)


async def _listen(server: GatewayServer, host: str, port: int, setting: str) -> str:
    try:
        bound = await server.start(host, port)
    except OSError as error:
        raise AddressInUseError(
            f"cannot listen on {host}:{port} ({error.strerror or error}); "
            f"is another process there? choose another port with {setting}"
        ) from None
    return f"http://{host}:{bound}"


async def _drain(public: GatewayServer, platform: Embedded, drain_s: float) -> None:
    await asyncio.gather(public.stop(drain_s), platform.websocket.stop())


async def _keep_registered(platform: Embedded) -> None:
    while True:
        await asyncio.sleep(HEARTBEAT_MS / 1000)
        await platform.heartbeat()


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


def _reload_routes(platform: Embedded) -> None:
    """SIGHUP: the new table takes over between two requests; a bad one is refused."""
    path = platform.settings.routes or DEFAULT_ROUTES
    try:
        table = RouteTable.load(path.read_text(encoding="utf-8"))
    except (RoutesError, OSError, UnicodeDecodeError) as error:
        _log.error("routes refused, the old table stays", path=str(path), reason=str(error))
        return
    platform.gateway.replace_routes(table)
    _log.info("routes replaced", path=str(path), routes=len(table.routes))
