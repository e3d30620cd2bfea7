"""Starts the platform in order, keeps it running, and ends it without dropping anything."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from urllib.parse import urlsplit

import structlog
import uvloop
from sqlalchemy.exc import DBAPIError

from yuanlian.gateway.server import GatewayServer
from yuanlian.kit.database.database import Database, DatabaseRefusedError, ManagedDatabase
from yuanlian.kit.messaging.bus import BusError
from yuanlian.kit.observe.logs import Log
from yuanlian.runtime import memory
from yuanlian.runtime.listening import Addresses, listen, server_for
from yuanlian.runtime.platform import Platform
from yuanlian.runtime.schema import SchemaError, upgrade
from yuanlian.runtime.servers import ServerRefusedError, told
from yuanlian.runtime.settings import Settings
from yuanlian.runtime.stopping import Stop, beside, heeding_hangups
from yuanlian.runtime.wiring import embedded

_log = structlog.get_logger("runtime")


Ready = Callable[[Addresses], None]
Load = Callable[[Database], Awaitable[object]]
Wire = Callable[[Settings, Log], Platform]


def run(
    settings: Settings,
    log: Log,
    *,
    wire: Wire = embedded,
    load: Load | None = None,
    ready: Ready | None = None,
) -> None:
    """Serves until SIGINT or SIGTERM. ``load`` fills an empty database before anything listens.

    Raises:
        AddressInUseError, SchemaError, ServerRefusedError: nothing was started.
    """
    uvloop.run(_serve(settings, log, wire, load, ready))


async def _serve(settings: Settings, log: Log, wire: Wire, load: Load | None, ready: Ready | None) -> None:
    stop = Stop(settings.drain_s)
    stop.ask_on_signals()
    platform = wire(settings, log)
    _bring_up_to_date(platform.database, settings)
    if load is not None:
        await load(platform.database)
    async with _running(platform, settings, stop) as addresses:
        memory.settle()
        _log.info("platform ready", public=addresses.public, admin=addresses.admin)
        if ready is not None:
            ready(addresses)
        await stop.asked()
        _log.info("stopping")
    _log.info("stopped")


def _bring_up_to_date(database: ManagedDatabase, settings: Settings) -> None:
    try:
        database.migrate(upgrade)
    except (DatabaseRefusedError, SchemaError) as error:
        reason = str(error)
    except DBAPIError as error:
        reason = f"{database}: {error.orig}"
    else:
        return
    if settings.database_url is not None:
        reason = told(settings, "database_url", reason)
    raise SchemaError(reason)


@contextlib.asynccontextmanager
async def _running(platform: Platform, settings: Settings, stop: Stop) -> AsyncIterator[Addresses]:
    """Inside out: what serves last starts last and stops first."""
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(platform.database.close)
        await stack.enter_async_context(platform.connections)
        for upstream in platform.upstreams:
            await upstream.start()
            stack.push_async_callback(upstream.stop)
        for module in platform.modules:
            if module.start is not None:
                await module.start()
            if module.stop is not None:
                stack.push_async_callback(stop.end, module.name, module.stop)
        public = server_for(platform.public, platform.observer)
        admin = server_for(platform.admin, platform.observer)
        # Ports before workers: a platform that cannot listen must not handle messages.
        admin_url = await listen(admin, platform.admin)
        stack.push_async_callback(admin.stop, 0.1)
        await _start_bus(platform, settings)
        stack.push_async_callback(stop.end, "bus", platform.bus.stop)
        await platform.relay.start()
        stack.push_async_callback(stop.end, "relay", platform.relay.stop)
        await stack.enter_async_context(beside((*platform.chores, platform.registration.keep)))
        stack.enter_context(heeding_hangups(stop, platform.reload))
        public_url = await listen(public, platform.public)
        stack.push_async_callback(_drain, public, platform, stop)
        await platform.registration.begin(urlsplit(public_url).port or 0)
        stack.push_async_callback(stop.end, "registration", platform.registration.end)
        yield Addresses(public_url, admin_url)


async def _start_bus(platform: Platform, settings: Settings) -> None:
    """It was asked before, but not for everything, and may have gone since."""
    try:
        await platform.bus.start()
    except BusError as error:
        raise ServerRefusedError(told(settings, "bus_url", error)) from error


async def _drain(public: GatewayServer, platform: Platform, stop: Stop) -> None:
    parts = [public.stop(stop.deadline.remaining)]
    if platform.websocket is not None:
        parts.append(platform.websocket.stop())
    await asyncio.gather(*parts)
