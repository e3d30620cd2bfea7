"""The upstreams of a gateway, found by the names of services, and begun and ended together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import AsyncExitStack
from functools import partial
from types import TracebackType

import structlog

from yuanlian.contracts.edge import EVERY_SERVICE
from yuanlian.gateway.routes import RouteTable
from yuanlian.gateway.upstreams.http import HttpUpstream

_log = structlog.get_logger("routes")


class Upstreams(Mapping[str, HttpUpstream]):
    """By service; one that is not named is behind ``*``, where there is that. ``make``: for services that
    are named later. ``distinct``: each once, though several services may share one."""

    def __init__(
        self, by_service: Mapping[str, HttpUpstream], make: Callable[[str], HttpUpstream] | None = None
    ) -> None:
        self._by_service = dict(by_service)
        self._make = make
        self.distinct = list({id(one): one for one in by_service.values()}.values())
        self._running: AsyncExitStack | None = None
        self._changing = asyncio.Lock()

    async def start(self) -> None:
        """Raises what the first that cannot be started raises; then none runs."""
        async with self._changing, AsyncExitStack() as begun:
            for upstream in self.distinct:
                await _begin(upstream, begun)
            self._running = begun.pop_all()

    async def stop(self) -> None:
        """Raises what the first that cannot be stopped raises, after all the others."""
        async with self._changing:
            running, self._running = self._running, None
            if running is not None:
                await running.aclose()

    async def take_in(self, table: RouteTable) -> None:
        """Finds the instances of services that are named for the first time."""
        async with self._changing:
            for service in sorted({route.service for route in table.routes}):
                if self.get(service) is not None:
                    continue
                if self._make is None:
                    _log.warning("routes name a service of which YUANLIAN_UPSTREAMS says nothing: its "
                                 "requests are answered with 503", service=service)  # fmt: skip
                    continue
                upstream = self._make(service)
                if self._running is not None:
                    async with AsyncExitStack() as begun:
                        await _begin(upstream, begun)
                        self._running.push_async_exit(begun.pop_all())
                self.distinct.append(upstream)
                self._by_service[service] = upstream
                _log.info("service found in the routes", service=service)

    def __getitem__(self, service: str) -> HttpUpstream:
        found = self._by_service.get(service) or self._by_service.get(EVERY_SERVICE)
        if found is None:
            raise KeyError(service)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_service)

    def __len__(self) -> int:
        return len(self._by_service)


async def _begin(upstream: HttpUpstream, begun: AsyncExitStack) -> None:
    """One that fails in the middle may have begun something: it is among those to be stopped before."""
    begun.push_async_exit(partial(_end, upstream))
    await upstream.start()


async def _end(
    upstream: HttpUpstream,
    kind: type[BaseException] | None,
    error: BaseException | None,
    traceback: TracebackType | None,
) -> None:
    """Raises, unless there is an ``error`` already: that came first, and is told."""
    del kind, traceback
    try:
        await upstream.stop()
    except Exception as later:
        if error is None:
            raise
        _log.error("upstream not stopped", service=upstream.name, exc_info=later)
