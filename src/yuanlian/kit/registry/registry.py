"""Where the instances of a service are. Source: specification "服务发现和注册", CONTRACT §9."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, Protocol

import msgspec

LIFETIME_MS = 60_000
HEARTBEAT_MS = 15_000


class Instance(msgspec.Struct, frozen=True):
    """One process that serves ``name``. Times are epoch milliseconds; ``host`` is ``""`` for a
    service inside the asking process."""

    name: str
    id: str
    host: str
    port: int
    version: str
    status: Literal["up", "draining"] = "up"
    registeredAt: int = 0
    lastHeartbeat: int = 0


Listener = Callable[[Sequence[Instance]], None]


class Registry(Protocol):
    """Instances live ``LIFETIME_MS`` after their last heartbeat and then are gone.

    Registering and heartbeats are atomic: nobody sees half an instance. When the registry itself is
    unreachable, ``instances`` keeps answering with the last known set.
    """

    async def register(self, instance: Instance) -> None:
        """Adds or replaces the instance of that name and id, alive from now."""
        ...

    async def heartbeat(self, name: str, instance_id: str) -> bool:
        """Prolongs the life of an instance; False when it is gone and has to register again."""
        ...

    async def knows(self, name: str, instance_id: str) -> bool:
        """Whether the instance is alive here; prolongs nothing."""
        ...

    async def deregister(self, name: str, instance_id: str) -> None: ...

    async def instances(self, name: str) -> Sequence[Instance]:
        """The living instances of a service, oldest first; empty when there is none."""
        ...

    async def services(self) -> dict[str, Sequence[Instance]]:
        """Every service that has a living instance."""
        ...

    def watch(self, name: str, listener: Listener) -> Callable[[], None]:
        """Calls ``listener`` with the living set after every change of it, on the event loop; returns
        how to stop that. Expiry shows at the latest with the next change or question."""
        ...
