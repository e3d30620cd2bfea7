"""The registry of one process."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from yuanlian.kit.clock import Clock
from yuanlian.kit.registry.registry import LIFETIME_MS, Instance, Listener


class MemoryRegistry:
    """Implements ``Registry`` for the embedded platform and for tests."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._living: dict[str, dict[str, Instance]] = {}
        self._listeners: dict[str, list[Listener]] = {}

    async def register(self, instance: Instance) -> None:
        now = self._clock.now_ms()
        alive = msgspec.structs.replace(
            instance, registeredAt=instance.registeredAt or now, lastHeartbeat=now
        )
        self._living.setdefault(instance.name, {})[instance.id] = alive
        self._expire(instance.name)
        self._tell(instance.name)

    async def heartbeat(self, name: str, instance_id: str) -> bool:
        self._expire(name)
        known = self._living.get(name, {})
        instance = known.get(instance_id)
        if instance is None:
            return False
        known[instance_id] = msgspec.structs.replace(instance, lastHeartbeat=self._clock.now_ms())
        return True

    async def knows(self, name: str, instance_id: str) -> bool:
        self._expire(name)
        return instance_id in self._living.get(name, {})

    async def deregister(self, name: str, instance_id: str) -> None:
        if self._living.get(name, {}).pop(instance_id, None) is not None:
            self._tell(name)

    async def instances(self, name: str) -> Sequence[Instance]:
        self._expire(name)
        return self._set(name)

    async def services(self) -> dict[str, Sequence[Instance]]:
        for name in self._living:
            self._expire(name)
        return {name: self._set(name) for name, living in self._living.items() if living}

    def watch(self, name: str, listener: Listener) -> Callable[[], None]:
        listeners = self._listeners.setdefault(name, [])
        listeners.append(listener)

        def stop() -> None:
            if listener in listeners:
                listeners.remove(listener)

        return stop

    def _set(self, name: str) -> tuple[Instance, ...]:
        living = self._living.get(name, {}).values()
        return tuple(sorted(living, key=lambda instance: (instance.registeredAt, instance.id)))

    def _expire(self, name: str) -> None:
        oldest = self._clock.now_ms() - LIFETIME_MS
        living = self._living.get(name, {})
        dead = [key for key, instance in living.items() if instance.lastHeartbeat <= oldest]
        for key in dead:
            del living[key]
        if dead:
            self._tell(name)

    def _tell(self, name: str) -> None:
        living = self._set(name)
        for listener in tuple(self._listeners.get(name, ())):
            listener(living)
