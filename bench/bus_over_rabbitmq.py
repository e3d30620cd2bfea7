"""``bench_bus.py --rabbitmq``: the bus over RabbitMQ against aio-pika alone, in one run.

Each message is persistent, published with ``mandatory`` to a topic exchange, confirmed by a quorum queue,
delivered, handled (by a handler that does nothing) and acknowledged, all in one process. The contenders
take turns; a figure is the median of their rounds. CPU is of the client alone: the broker's share of the
machine is the same for all.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from bench.peers import aio_pika_bus
from deploy.servers.rabbitmq import RabbitMq
from yuanlian.kit.clock import SystemClock
from yuanlian.kit.messaging.bus import Subscription
from yuanlian.kit.messaging.message import Message
from yuanlian.kit.messaging.rabbitmq import RabbitMqBus

IN_FLIGHT = 512
GROUP = 32
"""Messages that a relay hands over together."""
ROUNDS = 3


@dataclass
class Rounds:
    rates: list[float] = field(default_factory=list)
    us: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        return statistics.median(self.rates)


async def compare(type_: str, data: Any, seconds: float) -> dict[str, Rounds]:
    with tempfile.TemporaryDirectory() as folder:
        server = RabbitMq(Path(folder))
        server.start()
        try:
            return await _compare(server.url, type_, data, seconds / ROUNDS)
        finally:
            server.stop()


async def _compare(url: str, type_: str, data: Any, seconds: float) -> dict[str, Rounds]:
    sample = Message.new(type_, "tenant_bench", data)
    body = msgspec.json.encode(sample)
    headers = {"tenantId": "tenant_bench", "requestId": sample.requestId}
    contenders: dict[str, Callable[[], Awaitable[tuple[int, float]]]] = {
        f"ours, {GROUP} messages a call": lambda: _ours(url, type_, data, seconds, GROUP),
        "ours, one message a call": lambda: _ours(url, type_, data, seconds, 1),
        "aio-pika": lambda: aio_pika_bus.deliver(url, "peer.queue", type_, body, headers, seconds, IN_FLIGHT),
    }
    rounds = {name: Rounds() for name in contenders}
    for _ in range(ROUNDS):
        for name, contender in contenders.items():
            cpu = time.process_time()
            count, elapsed = await contender()
            rounds[name].rates.append(count / elapsed)
            rounds[name].us.append((time.process_time() - cpu) / count * 1e6)
    peer = rounds["aio-pika"].rate
    print(f"{len(body)} bytes a message, {IN_FLIGHT} in flight, median of {ROUNDS} rounds of {seconds:.1f} s")
    for name, of in rounds.items():
        print(
            f"{name:28} {of.rate:8,.0f} messages/s {of.rate / peer:6.2f} x aio-pika "
            f"{statistics.median(of.us):6.0f} us of CPU a message"
        )
    return rounds


async def _ours(url: str, type_: str, data: Any, seconds: float, group: int) -> tuple[int, float]:
    handled = published = 0

    async def handle(messages: Sequence[Message]) -> None:
        nonlocal handled
        handled += len(messages)

    bus = RabbitMqBus(url, SystemClock(), name="bench")
    bus.subscribe(Subscription("bench.queue", (type_,), handle))
    await bus.start()
    await bus.ping()  # connected to publish, too
    started = time.perf_counter()

    async def publish() -> None:
        nonlocal published
        while time.perf_counter() - started < seconds:
            await bus.publish([Message.new(type_, "tenant_bench", data) for _ in range(group)])
            published += group

    await asyncio.gather(*(publish() for _ in range(IN_FLIGHT // group)))
    while handled < published:
        await asyncio.sleep(0.001)
    elapsed = time.perf_counter() - started
    await bus.stop()
    return handled, elapsed
