"""Instances that somebody wrote down."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from yuanlian.kit.registry.registry import Instance, Listener


class FixedRegistry:
    """Implements ``Registry``. Nobody comes, nobody goes, and nobody says whether they live: registering
    changes nothing, and ``heartbeat`` knows those who are written down."""

    def __init__(self, instances: Iterable[Instance]) -> None:
        self._instances: dict[str, list[Instance]] = {}
        for instance in instances:
            self._instances.setdefault(instance.name, []).append(instance)

    async def register(self, instance: Instance) -> None:
        del instance

    async def heartbeat(self, name: str, instance_id: str) -> bool:
        return any(instance.id == instance_id for instance in self._instances.get(name, ()))

    async def knows(self, name: str, instance_id: str) -> bool:
        return await self.heartbeat(name, instance_id)

    async def deregister(self, name: str, instance_id: str) -> None:
        del name, instance_id

    async def instances(self, name: str) -> Sequence[Instance]:
        return tuple(self._instances.get(name, ()))

    async def services(self) -> dict[str, Sequence[Instance]]:
        return {name: tuple(instances) for name, instances in self._instances.items()}

    def watch(self, name: str, listener: Listener) -> Callable[[], None]:
        del name, listener
        return lambda: None
