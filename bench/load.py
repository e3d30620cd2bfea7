"""A load generator in its own process: keep-alive connections, one request in flight on each.

It reads a plan (requests made beforehand, each sent once) and prints one JSON object. The generator
shares the machine with the server it drives, so it does as little as it can: no HTTP library, no
request built at run time, an answer is taken apart by hand.

    python bench/load.py --port 8080 --plan plan.msgpack [--rate 1000] [--seconds 10] [--warm-up 2]

Without ``--rate`` every connection sends its next request as soon as the last is answered. With it,
requests are due at fixed times, and latency counts from then, whether or not a connection was free.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import resource
import time
from collections import Counter, deque
from pathlib import Path
from typing import cast

import msgspec
import uvloop

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_SETTLE_S = 15.0
"""How long answers to requests that are under way at the end are waited for."""


class Plan(msgspec.Struct):
    """``heads``: request line and headers up to the last common one, one per user. ``requests``: index
    of a head, and the rest of the request from its ``content-length`` on."""

    heads: list[bytes]
    requests: list[tuple[int, bytes]]


class Outcome(msgspec.Struct):
    """``acknowledged``: every 2xx, warm-up included. ``rate``, ``p50_ms``, ``p99_ms``: of the counted
    seconds. ``exhausted``: the plan ran out before the time did."""

    acknowledged: int
    counted: int
    seconds: float
    rate: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    failures: dict[str, int]
    samples: list[str]
    exhausted: bool
    client_cpu_us: float


class Connection(asyncio.Protocol):
    def __init__(self, load: Load) -> None:
        self._load = load
        self._transport: asyncio.Transport | None = None
        self._started = 0.0
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def send(self, due: float, request: bytes) -> None:
        assert self._transport is not None
        self._started = due
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        if self._buffer:
            data = self._buffer + data
        end = data.find(b"\r\n\r\n")
        if end >= 0:
            found = _LENGTH.search(data, 0, end)
            if found is None:
                self._load.answered(self, self._started, 0, b"an answer without content-length")
                return
            if len(data) >= end + 4 + int(found[1]):
                self._buffer = b""
                self._load.answered(self, self._started, int(data[9:12]), data)
                return
        self._buffer = data

    def connection_lost(self, exc: Exception | None) -> None:
        self._load.lost(self, exc)


class Load:
    def __init__(self, plan: Plan, port: int, connections: int, rate: float | None) -> None:
        self._heads = plan.heads
        self._requests = iter(plan.requests)
        self._port = port
        self._size = connections
        self._rate = rate
        self._idle: deque[Connection] = deque()
        self._late: deque[float] = deque()
        self._in_flight = 0
        self._sending = False
        self._window = (0.0, 0.0)
        self._latencies: list[float] = []
        self._acknowledged = 0
        self._exhausted = False
        self._failures: Counter[str] = Counter()
        self._samples: list[str] = []

    async def run(self, warm_up: float, seconds: float) -> Outcome:
        loop = asyncio.get_running_loop()
        for _ in range(self._size):
            _, connection = await loop.create_connection(lambda: Connection(self), "127.0.0.1", self._port)
            self._idle.append(connection)
        begin = time.perf_counter()
        self._window = (begin + warm_up, begin + warm_up + seconds)
        self._sending = True
        await (self._flood() if self._rate is None else self._pace(self._rate))
        self._sending = False
        await self._settle()
        return self._outcome(seconds)

    async def _flood(self) -> None:
        while self._idle:
            self._next(self._idle.popleft(), time.perf_counter())
        while time.perf_counter() < self._window[1] and not self._exhausted:
            await asyncio.sleep(0.05)

    async def _pace(self, rate: float) -> None:
        due, step = time.perf_counter(), 1 / rate
        while due < self._window[1] and not self._exhausted:
            now = time.perf_counter()
            while due <= now:
                if self._idle:
                    self._next(self._idle.popleft(), due)
                else:
                    self._late.append(due)
                due += step
            await asyncio.sleep(max(0.0, due - time.perf_counter()))

    async def _settle(self) -> None:
        deadline = time.perf_counter() + _SETTLE_S
        while self._in_flight and time.perf_counter() < deadline:
            await asyncio.sleep(0.01)
        if self._in_flight:
            self._failures["no answer"] += self._in_flight

    def _next(self, connection: Connection, due: float) -> None:
        request = next(self._requests, None)
        if request is None:
            self._exhausted = True
            return
        self._in_flight += 1
        connection.send(due, self._heads[request[0]] + request[1])

    def answered(self, connection: Connection, started: float, status: int, answer: bytes) -> None:
        now = time.perf_counter()
        self._in_flight -= 1
        if 200 <= status < 300:
            self._acknowledged += 1
            if self._window[0] <= now < self._window[1]:
                self._latencies.append(now - started)
        else:
            self._fail(str(status), answer.decode(errors="replace"))
        if not self._sending:
            return
        if self._rate is None:
            self._next(connection, now)
        elif self._late:
            self._next(connection, self._late.popleft())
        else:
            self._idle.append(connection)

    def lost(self, connection: Connection, error: Exception | None) -> None:
        """A server that closes a connection under load has failed, whatever it meant by it."""
        if self._sending:
            if connection in self._idle:
                self._idle.remove(connection)
            else:
                self._in_flight -= 1
            self._fail("connection closed", repr(error))

    def _fail(self, kind: str, sample: str) -> None:
        self._failures[kind] += 1
        if len(self._samples) < 3:
            self._samples.append(sample[-600:])

    def _outcome(self, seconds: float) -> Outcome:
        taken = sorted(self._latencies)
        usage = resource.getrusage(resource.RUSAGE_SELF)
        counted = len(taken)
        return Outcome(
            acknowledged=self._acknowledged,
            counted=counted,
            seconds=seconds,
            rate=counted / seconds,
            p50_ms=_percentile(taken, 0.50) * 1000,
            p99_ms=_percentile(taken, 0.99) * 1000,
            max_ms=(taken[-1] if taken else 0.0) * 1000,
            failures=dict(self._failures),
            samples=self._samples,
            exhausted=self._exhausted,
            client_cpu_us=(usage.ru_utime + usage.ru_stime) / max(1, self._acknowledged) * 1e6,
        )


def _percentile(taken: list[float], share: float) -> float:
    return taken[min(len(taken) - 1, int(len(taken) * share))] if taken else 0.0


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--port", type=int, required=True)
    arguments.add_argument("--plan", type=Path, required=True)
    arguments.add_argument("--connections", type=int, default=128)
    arguments.add_argument("--seconds", type=float, default=10.0)
    arguments.add_argument("--warm-up", type=float, default=2.0)
    arguments.add_argument("--rate", type=float)
    options = arguments.parse_args()
    plan = msgspec.msgpack.decode(options.plan.read_bytes(), type=Plan)
    load = Load(plan, options.port, options.connections, options.rate)
    outcome = uvloop.run(load.run(options.warm_up, options.seconds))
    print(msgspec.json.encode(outcome).decode())


if __name__ == "__main__":
    main()
