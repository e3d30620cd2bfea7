"""Being found by others, for as long as this process serves."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
from collections.abc import Sequence

import msgspec
import structlog

from yuanlian import __version__
from yuanlian.kit.errors import ServiceUnavailableError
from yuanlian.kit.registry.registry import HEARTBEAT_MS, Instance, Registry

AWAY_S = 1.0
"""How soon a registry that was away, or has lost its memory, is told again."""
LOOK_S = 1.0

_log = structlog.get_logger("runtime")


class Registration:
    """``names``: the services of this process. ``host``: where others reach it, ``""`` when nobody else
    has to."""

    def __init__(self, registry: Registry, names: Sequence[str], host: str) -> None:
        self._registry = registry
        self._names = names
        self._host = host
        self._id = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}" if host else "embedded"
        self._instances: list[Instance] = []

    async def begin(self, port: int) -> None:
        """Once the listener is open. While the registry is away the process serves those who know it."""
        self._instances = [
            Instance(name, self._id, self._host, port if self._host else 0, __version__)
            for name in self._names
        ]
        await self._tell()

    async def keep(self) -> None:
        """Heartbeats, until cancelled; a registry that has forgotten us is told again within a second."""
        loop = asyncio.get_running_loop()
        beat_at = loop.time() + HEARTBEAT_MS / 1000
        while True:
            await asyncio.sleep(LOOK_S)
            if not self._instances:
                continue
            try:
                if loop.time() >= beat_at:
                    beat_at = loop.time() + HEARTBEAT_MS / 1000
                    known = [await self._registry.heartbeat(i.name, i.id) for i in self._instances]
                else:
                    known = [await self._registry.knows(i.name, i.id) for i in self._instances]
            except ServiceUnavailableError:
                continue
            if not all(known):
                await self._tell()

    async def end(self) -> None:
        """Before the listener closes, so that nobody new comes."""
        leaving, self._instances = self._instances, []
        try:
            for instance in leaving:
                await self._registry.register(msgspec.structs.replace(instance, status="draining"))
            for instance in leaving:
                await self._registry.deregister(instance.name, instance.id)
        except ServiceUnavailableError:
            _log.warning("the registry is away: others will find out by themselves that we left")

    async def _tell(self) -> None:
        try:
            for instance in self._instances:
                await self._registry.register(instance)
                if not self._instances:
                    # ``end`` came meanwhile; its goodbye may have been before our word.
                    await self._registry.deregister(instance.name, instance.id)
        except ServiceUnavailableError:
            _log.warning("not registered: the registry is away", retry_in_s=AWAY_S)
