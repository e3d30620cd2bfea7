"""Where a cluster learns its instances: a fixed list, or the registry."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol
from urllib.parse import urlsplit

import structlog

from yuanlian.gateway.upstreams.cluster import Address
from yuanlian.kit.registry.registry import Instance, Registry
from yuanlian.kit.resilience.keeping import kept

Listener = Callable[[Sequence[Address]], None]

_log = structlog.get_logger("gateway")
_POLL_S = 5.0


class InstanceSource(Protocol):
    """Tells a listener the whole set, first before ``start`` returns and then after each change, on
    the event loop."""

    async def start(self, listener: Listener) -> None: ...

    async def stop(self) -> None: ...


class FixedInstances:
    """``urls``: ``http://host:port`` each.

    Raises:
        ValueError: one is something else.
    """

    def __init__(self, urls: Iterable[str]) -> None:
        self._addresses = [_address(url) for url in urls]

    async def start(self, listener: Listener) -> None:
        listener(self._addresses)

    async def stop(self) -> None:
        pass


class RegisteredInstances:
    """The living instances of ``name`` that are not draining. The registry's word at once when it says
    so by itself, and asked every ``poll_s`` seconds, for what expires is not announced. When it cannot
    be reached, nothing changes."""

    def __init__(self, registry: Registry, name: str, poll_s: float = _POLL_S) -> None:
        self._registry = registry
        self._name = name
        self._poll_s = poll_s
        self._task: asyncio.Task[None] | None = None
        self._stop: Callable[[], None] = lambda: None
        self._away = False

    async def start(self, listener: Listener) -> None:
        self._stop = self._registry.watch(self._name, lambda living: listener(_ready(living)))
        await self._ask(listener)
        self._task = asyncio.create_task(kept(f"instances of {self._name}", lambda: self._poll(listener)))

    async def stop(self) -> None:
        self._stop()
        if self._task is not None:
            self._task.cancel()
            # Not awaited itself: its cancellation would look like ours, which the caller must see.
            await asyncio.gather(self._task, return_exceptions=True)

    async def _poll(self, listener: Listener) -> None:
        while True:
            await asyncio.sleep(self._poll_s)
            await self._ask(listener)

    async def _ask(self, listener: Listener) -> None:
        try:
            living = await self._registry.instances(self._name)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with it, the last known set serves
            if not self._away:
                _log.warning("registry away", service=self._name, reason=repr(error))
            self._away = True
            return
        self._away = False
        listener(_ready(living))


def _ready(living: Iterable[Instance]) -> list[Address]:
    return [Address(one.host, one.port) for one in living if one.status == "up" and one.host]


def _address(url: str) -> Address:
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname or parts.path not in ("", "/") or parts.query:
        raise ValueError(f"expected http://host:port, not {url!r}")
    return Address(parts.hostname, parts.port or 80)
