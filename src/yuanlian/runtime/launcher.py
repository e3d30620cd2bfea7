"""Starts the embedded platform in order, keeps it running, and ends it without dropping anything."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass

import structlog
import uvloop
from sqlalchemy.exc import DBAPIError

from yuanlian.gateway.server import GatewayServer
from yuanlian.kit.database.database import Database
from yuanlian.kit.database.sqlite import SqliteDatabase
from yuanlian.kit.observe.logs import Log
from yuanlian.kit.registry.registry import HEARTBEAT_MS
from yuanlian.kit.resilience.deadline import Deadline
from yuanlian.runtime import memory, routing
from yuanlian.runtime.housekeeping import keep_tidy
from yuanlian.runtime.schema import SchemaError, upgrade
from yuanlian.runtime.settings import Settings
from yuanlian.runtime.wiring import Embedded, embedded

LAST_GRACE_S = 0.2
"""What a part may take to end when requests have used up all of ``drain_s``."""
FORCED_S = 0.8
"""After ``drain_s`` and this, threads that still compute are left behind."""

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
        AddressInUseError, SchemaError: nothing was started.
    """
    uvloop.run(_serve(settings, log, load, ready))


async def _serve(settings: Settings, log: Log, load: Load | None, ready: Ready | None) -> None:
    stop = _Stop(settings.drain_s)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.ask)
    platform = embedded(settings, log)
    _bring_up_to_date(platform.database)
    if load is not None:
        await load(platform.database)
    async with _running(platform, stop) as addresses:
        memory.settle()
        _log.info("platform ready", public=addresses.public, admin=addresses.admin)
        if ready is not None:
            ready(addresses)
        await stop.asked()
        _log.info("stopping")
    _log.info("stopped")


def _bring_up_to_date(database: SqliteDatabase) -> None:
    try:
        database.migrate(upgrade)
    except DBAPIError as error:
        raise SchemaError(f"{database.path}: {error.orig}") from None


class _Stop:
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


@contextlib.asynccontextmanager
async def _running(platform: Embedded, stop: _Stop) -> AsyncIterator[Addresses]:
    """Inside out: what serves last starts last and stops first."""
    settings = platform.settings
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(platform.database.close)
        for module in platform.modules:
            if module.start is not None:
                await module.start()
            if module.stop is not None:
                stack.push_async_callback(stop.end, module.name, module.stop)
        public = GatewayServer(platform.gateway, platform.observer)
        admin = GatewayServer(platform.admin, platform.observer)
        # Ports before workers: a platform that cannot listen must not handle messages.
        admin_url = await _listen(admin, settings.admin_host, settings.admin_port, "YUANLIAN_ADMIN_PORT")
        stack.push_async_callback(admin.stop, 0.1)
        await platform.bus.start()
        stack.push_async_callback(stop.end, "bus", platform.bus.stop)
        await platform.relay.start()
        stack.push_async_callback(stop.end, "relay", platform.relay.stop)
        await platform.register()
        await stack.enter_async_context(_background(platform, stop))
        public_url = await _listen(public, settings.host, settings.port, "YUANLIAN_PORT")
        stack.push_async_callback(_drain, public, platform, stop)
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


async def _drain(public: GatewayServer, platform: Embedded, stop: _Stop) -> None:
    await asyncio.gather(public.stop(stop.deadline.remaining), platform.websocket.stop())


@contextlib.asynccontextmanager
async def _background(platform: Embedded, stop: _Stop) -> AsyncIterator[None]:
    """What goes on beside the requests, and ends with them."""
    chores = [_keep_registered(platform), keep_tidy(platform.database, platform.clock)]
    if platform.settings.routes is not None:
        chores.append(routing.follow(platform.routes, platform.gateway))
    tasks = [asyncio.create_task(chore) for chore in chores]
    try:
        with _heeding_hangups(platform, stop):
            yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@contextlib.contextmanager
def _heeding_hangups(platform: Embedded, stop: _Stop) -> Iterator[None]:
    """SIGHUP: the operator has changed the routes, or has closed the terminal that we run in."""
    loop = asyncio.get_running_loop()
    in_terminal = os.isatty(0)
    reloads: set[asyncio.Task[None]] = set()

    def heed() -> None:
        if in_terminal and not os.isatty(0):
            stop.ask()
            return
        task = asyncio.create_task(routing.reload(platform.routes, platform.gateway))
        reloads.add(task)  # the loop itself would forget it
        task.add_done_callback(reloads.discard)

    loop.add_signal_handler(signal.SIGHUP, heed)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGHUP)


async def _keep_registered(platform: Embedded) -> None:
    while True:
        await asyncio.sleep(HEARTBEAT_MS / 1000)
        await platform.heartbeat()
