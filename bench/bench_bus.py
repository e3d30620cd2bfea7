"""Messages per second through outbox → relay → three queues → handlers, all durable, in one process.

    python -m bench.bench_bus [--seconds 5] [--rate N] [--profile]
    python -m bench.bench_bus --rabbitmq [--seconds 15] [--profile] [--save]

Without ``--rate`` writers add as fast as the relay keeps up. With it, messages are added at that rate
and the time from their commit to each handler is printed. The handlers do nothing: this is the cost
of the bus alone. Writers are measured by themselves first; what a message costs on its way from the
outbox to where it is settled in every queue is the difference. ``--profile`` prints where the event
loop's thread spends its time.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import math
import os
import platform
import pstats
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import uvloop

from bench.bus_over_rabbitmq import compare
from bench.machine import debian, describe, save
from yuanlian.kit.clock import SystemClock
from yuanlian.kit.database.batching import Batcher
from yuanlian.kit.database.schema import Base
from yuanlian.kit.database.sqlite import SqliteDatabase
from yuanlian.kit.messaging import outbox
from yuanlian.kit.messaging.bus import Subscription
from yuanlian.kit.messaging.local import LocalBus
from yuanlian.kit.messaging.message import Message
from yuanlian.kit.messaging.relay import Relay

RESULTS = Path("bench/results/bus.json")
QUEUES = ("attendance.queue", "notification.queue", "analytics.queue")
TYPE = "attendance.update"
IN_FLIGHT = 2000
WRITERS = 8
GROUP = 32
"""Messages per transaction: about a group commit of check-ins."""
# About the size of an attendance event with two recipients.
DATA = {
    "id": "attendance_0192f1c8a7f07c3e8f5d6a7b8c9d0e1f",
    "studentId": "student_0192f1c8a7f07c3e8f5d6a7b8c9d0e1f",
    "studentName": "甲一",
    "classId": "class_01",
    "className": "小一班",
    "type": "check_in",
    "dayState": "present",
    "dayVersion": 1,
    "date": "2026-03-02",
    "occurredAt": 1772409600000,
    "receivedAt": 1772409600123,
    "recipients": [
        {"guardianId": f"guardian_{n}", "name": "乙", "relation": "mother", "userId": f"user_{n}"}
        for n in range(2)
    ],
}


class Meter:
    """Counts what the handlers got, and how long after the commit."""

    def __init__(self) -> None:
        self.committed_at: dict[str, float] = {}
        self.added = 0
        self.handled = 0
        self.batches = 0
        self.latencies: list[float] = []

    async def handle(self, messages: Sequence[Message]) -> None:
        now = time.perf_counter()
        self.handled += len(messages)
        self.batches += 1
        for message in messages:
            committed = self.committed_at.get(message.id)
            # A handler may hear of a message before its writer has heard of the commit.
            self.latencies.append(max(now - committed, 0.0) if committed else 0.0)

    @property
    def outstanding(self) -> int:
        return self.added - self.handled // len(QUEUES)


async def add(database: SqliteDatabase, meter: Meter, size: int) -> None:
    messages = [Message.new(TYPE, "tenant_bench", DATA) for _ in range(size)]
    meter.added += size
    await database.write(lambda session: outbox.add(session, messages))
    now = time.perf_counter()
    meter.committed_at.update((message.id, now) for message in messages)


async def flood(database: SqliteDatabase, meter: Meter, until: float, limit: float) -> None:
    """``limit``: of messages that are added and not yet handled."""

    async def writer() -> None:
        while time.perf_counter() < until:
            if meter.outstanding > limit:
                await asyncio.sleep(0.002)
            else:
                await add(database, meter, GROUP)

    await asyncio.gather(*(writer() for _ in range(WRITERS)))


async def pace(database: SqliteDatabase, meter: Meter, until: float, rate: float) -> None:
    """Single messages at an even rate; those that come together share a statement, as check-ins do."""

    async def store(batch: Sequence[None]) -> Sequence[Exception | None]:
        await add(database, meter, len(batch))
        return batch

    batcher: Batcher[None, None] = Batcher(store)
    tasks: set[asyncio.Task[None]] = set()
    start, sent = time.perf_counter(), 0
    while (now := time.perf_counter()) < until:
        due = int((now - start) * rate)
        for _ in range(due - sent):
            task = asyncio.create_task(batcher.submit(None))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        sent = due
        await asyncio.sleep(0.002)
    await asyncio.gather(*tasks)


@dataclass(frozen=True)
class Result:
    meter: Meter
    elapsed: float
    cpu: float

    @property
    def us_per_message(self) -> float:
        return self.cpu / self.meter.added * 1e6


async def write_alone(seconds: float, rate: float | None) -> Result:
    with tempfile.TemporaryDirectory() as folder:
        database, meter = open_database(Path(folder)), Meter()
        result = await measured(meter, write(database, meter, seconds, rate, math.inf))
        await database.close()
        return result


async def write_and_deliver(seconds: float, rate: float | None, profile: cProfile.Profile | None) -> Result:
    with tempfile.TemporaryDirectory() as folder:
        database, meter = open_database(Path(folder)), Meter()
        bus = LocalBus(database, SystemClock())
        for queue in QUEUES:
            bus.subscribe(Subscription(queue, (TYPE,), meter.handle))
        relay = Relay(database, bus, SystemClock())
        await bus.start()
        await relay.start()

        async def work() -> None:
            await write(database, meter, seconds, rate, IN_FLIGHT)
            while meter.outstanding:
                await asyncio.sleep(0.001)
            await relay.stop()
            await bus.stop()

        if profile:
            profile.enable()
        result = await measured(meter, work())
        if profile:
            profile.disable()
        await database.close()
        return result


def open_database(folder: Path) -> SqliteDatabase:
    database = SqliteDatabase(folder / "bench.db")
    database.migrate(lambda connection: Base.metadata.create_all(connection))
    return database


async def write(
    database: SqliteDatabase, meter: Meter, seconds: float, rate: float | None, limit: float
) -> None:
    until = time.perf_counter() + seconds
    await (pace(database, meter, until, rate) if rate else flood(database, meter, until, limit))


async def measured(meter: Meter, work: Coroutine[Any, Any, None]) -> Result:
    started, cpu = time.perf_counter(), time.process_time()
    await work
    return Result(meter, time.perf_counter() - started, time.process_time() - cpu)


def report(alone: Result, whole: Result) -> None:
    meter, elapsed = whole.meter, whole.elapsed
    cuts = statistics.quantiles(meter.latencies, n=100)
    print(f"{meter.added} messages, {meter.handled} deliveries in {meter.batches} batches, {elapsed:.2f} s")
    print(f"{meter.added / elapsed:,.0f} messages/s, {meter.handled / elapsed:,.0f} deliveries/s")
    total, writing = whole.us_per_message, alone.us_per_message
    print(
        f"CPU per message: {total:.0f} us in all, {writing:.0f} us to write it, "
        f"{total - writing:.0f} us from the outbox to settled in {len(QUEUES)} queues"
    )
    print(f"{whole.cpu / elapsed:.2f} cores")
    print(f"commit to handler: p50 {cuts[49] * 1000:.1f} ms, p99 {cuts[98] * 1000:.1f} ms")


def over_rabbitmq(seconds: float, profile: cProfile.Profile | None, *, keep: bool) -> None:
    print(f"aio-pika {version('aio-pika')}, aiormq {version('aiormq')}")
    if profile:
        profile.enable()
    rounds = uvloop.run(compare(TYPE, DATA, seconds))
    if profile:
        profile.disable()
        pstats.Stats(profile).sort_stats("tottime").print_stats(25)
    if keep:
        machine = describe(("aio-pika", "aiormq", "uvloop")) | debian(("rabbitmq-server",))
        peer = rounds["aio-pika"].rate
        ratios = {name: of.rate / peer for name, of in rounds.items()}
        save(RESULTS, {"machine": machine, "rounds": rounds, "ratios": ratios})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--rate", type=float)
    parser.add_argument("--rabbitmq", action="store_true", help="the bus over RabbitMQ, against aio-pika")
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--save", action="store_true", help="with --rabbitmq: write it into bench/results/")
    options = parser.parse_args()
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}, "
        f"Python {platform.python_version()}, SQLAlchemy {version('sqlalchemy')}, "
        f"SQLite {sqlite3.sqlite_version}, uvloop {version('uvloop')}"
    )
    profile = cProfile.Profile() if options.profile else None
    if options.rabbitmq:
        over_rabbitmq(options.seconds, profile, keep=options.save)
        return
    alone = uvloop.run(write_alone(options.seconds, options.rate))
    whole = uvloop.run(write_and_deliver(options.seconds, options.rate, profile))
    report(alone, whole)
    if profile:
        pstats.Stats(profile).sort_stats("tottime").print_stats(25)


if __name__ == "__main__":
    main()
