"""Who leaves is gone, whatever was on its way."""

from __future__ import annotations

import asyncio

from yuanlian.kit.clock import SystemClock
from yuanlian.kit.registry.memory import MemoryRegistry
from yuanlian.kit.registry.registry import Instance
from yuanlian.runtime.registration import Registration


class Slow(MemoryRegistry):
    """A registration that has begun ends when it is let to."""

    def __init__(self) -> None:
        super().__init__(SystemClock())
        self.begun, self.let = asyncio.Event(), asyncio.Event()
        self.let.set()

    async def register(self, instance: Instance) -> None:
        if instance.status == "up":
            self.begun.set()
            await self.let.wait()
        await super().register(instance)


def test_who_leaves_while_it_registers_again_is_gone() -> None:
    async def main() -> None:
        registry = Slow()
        registration = Registration(registry, ["svc"], "127.0.0.1")
        await registration.begin(9000)
        (instance,) = await registry.instances("svc")
        await registry.deregister("svc", instance.id)  # it has lost its memory
        registry.begun.clear()
        registry.let.clear()
        keeping = asyncio.ensure_future(registration.keep())
        await asyncio.wait_for(registry.begun.wait(), 10)
        await registration.end()
        registry.let.set()
        await asyncio.sleep(0.05)
        assert not await registry.instances("svc")
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)

    asyncio.run(main())
