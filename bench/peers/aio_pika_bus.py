"""The same work as ``bench_bus.py --rabbitmq`` with aio-pika alone, as its documentation shows it.

Persistent messages to a durable quorum queue, each confirmed, each acknowledged by its consumer.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

import aio_pika
from aio_pika.abc import AbstractIncomingMessage

PREFETCH = 512


async def deliver(
    url: str,
    queue_name: str,
    type_: str,
    body: bytes,
    headers: Mapping[str, Any],
    seconds: float,
    in_flight: int,
) -> tuple[int, float]:
    """Messages published, confirmed, consumed and acknowledged, and in how many seconds."""
    publishing = await aio_pika.connect_robust(url)
    consuming = await aio_pika.connect_robust(url)
    channel = await publishing.channel(publisher_confirms=True)
    exchange = await channel.declare_exchange(
        f"{queue_name}.topic", aio_pika.ExchangeType.TOPIC, durable=True
    )
    inbound = await consuming.channel()
    await inbound.set_qos(prefetch_count=PREFETCH)
    queue = await inbound.declare_queue(queue_name, durable=True, arguments={"x-queue-type": "quorum"})
    await queue.bind(exchange, routing_key=type_)
    confirmed = consumed = 0

    async def consume(message: AbstractIncomingMessage) -> None:
        nonlocal consumed
        async with message.process():
            consumed += 1

    started = time.perf_counter()

    async def publish(number: int) -> None:
        nonlocal confirmed
        while time.perf_counter() - started < seconds:
            message = aio_pika.Message(
                body,
                headers=dict(headers),
                content_type="application/json",
                delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
                message_id=f"msg_{number}_{confirmed}",
                type=type_,
            )
            await exchange.publish(message, routing_key=type_, mandatory=True)
            confirmed += 1

    await queue.consume(consume)
    await asyncio.gather(*(publish(number) for number in range(in_flight)))
    while consumed < confirmed:
        await asyncio.sleep(0.001)
    elapsed = time.perf_counter() - started
    await queue.delete(if_unused=False, if_empty=False)
    await channel.exchange_delete(exchange.name)
    await consuming.close()
    await publishing.close()
    return consumed, elapsed
