"""Deliveries per second from the hub to WebSocket clients over loopback, and memory per connection.

    python -m bench.bench_realtime [--subscribers 1000] [--events 300] [--rounds 5] [--batch 1]

The server is the real edge connection, endpoint and hub on uvloop, in this process, on one core; the
subscribers are real, authenticated connections held by a second process on another core, which reads
and counts bytes. A round publishes ``--events`` events to all of them and ends when the last byte has
been read. ``--batch`` events are published in one turn of the event loop, 1 being the hardest: every
delivery is then a system call of its own. On a busy machine read the figure per CPU second of the
server; the other one also waits for whatever else runs. The tenant service behind the endpoint is a stand-in.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import statistics
import sys
import time
from base64 import b64encode
from pathlib import Path

import uvloop
from tests.support.websocket import Edge

from bench.machine import describe, pinned
from yuanlian.kit.realtime.hub import Event

CHANNELS = ["class:class_sun_01", "class:class_sun_02", "tenant"]
PAYLOAD = {
    "type": "attendance_update",
    "data": {
        "studentId": "student_0192f1c8a7f07c3e8f5d6a7b8c9d0e1f",
        "studentName": "甲一",
        "classId": "class_sun_01",
        "status": "present",
        "type": "check_in",
        "timestamp": 1772409600000,
    },
}
EVENT = Event(
    "a", ("class:class_sun_01", "student:student_0192f1c8a7f07c3e8f5d6a7b8c9d0e1f", "tenant"), PAYLOAD
)
PAGE = os.sysconf("SC_PAGE_SIZE")


class FrameSizes:
    """A subscriber that knows how many bytes a client has to read."""

    tenant_id, user_id = "a", "the bench"

    def __init__(self) -> None:
        self.bytes = 0

    def deliver(self, frame: bytes, cursor: str) -> None:  # noqa: ARG002 - the port's signature
        self.bytes += len(frame)

    def close(self, code: int) -> None:
        raise RuntimeError(f"closed with {code}")

    def resync(self) -> None:
        raise RuntimeError("events were lost")


# The subscribers' process


class Reader(asyncio.Protocol):
    """Says who it is, then counts what comes."""

    def __init__(self, process: Subscribers, token: str) -> None:
        self._process = process
        self._token = token
        self._ready = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        key = b64encode(os.urandom(16))
        data = json.dumps({"type": "auth", "tenantId": "a", "token": self._token}).encode()
        head = (
            b"GET /ws HTTP/1.1\r\nHost: bench\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + key + b"\r\n\r\n"
        )
        frame = b"\x81\xfe" + len(data).to_bytes(2, "big") + b"\0\0\0\0" + data
        transport.write(head + frame)  # type: ignore[attr-defined]  # create_connection makes a Transport

    def data_received(self, data: bytes) -> None:
        if self._ready:
            self._process.read(len(data))
        elif b"auth_success" in data:
            self._ready = True
            self._process.signed_in()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self._process.lost()


class Subscribers:
    """Many readers, steered by lines on standard input: the port and tokens, then what to expect."""

    def __init__(self) -> None:
        self._bytes = 0
        self._expected = -1
        self._waiting = 0
        self._lost = 0

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        port, tokens = json.loads(await loop.run_in_executor(None, sys.stdin.readline))
        self._waiting = len(tokens)
        for token in tokens:
            await loop.create_connection(lambda token=token: Reader(self, token), "127.0.0.1", port)  # type: ignore[misc]
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            self._expected = int(line)
            self.read(0)

    def signed_in(self) -> None:
        self._waiting -= 1
        if not self._waiting:
            print("ready", flush=True)

    def read(self, count: int) -> None:
        self._bytes += count
        if self._bytes == self._expected:
            self._bytes, self._expected = 0, -1
            print("done", flush=True)

    def lost(self) -> None:
        self._lost += 1
        if self._lost == 1 and self._expected >= 0:
            print("lost a connection", flush=True)


# The server's process


async def measure(options: argparse.Namespace, core: int | None) -> None:
    # The readers count bytes and answer no pings.
    async with Edge(keepalive_s=3600.0) as edge:
        users = [f"user_{n}" for n in range(options.subscribers)]
        edge.service.follows = dict.fromkeys(users, CHANNELS)
        tokens = [edge.token(user) for user in users]
        gc.collect()
        before = _resident()
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "bench.bench_realtime",
            "--as-subscribers",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=2**20,
            preexec_fn=pinned(core),
        )
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(json.dumps([edge.port, tokens]).encode() + b"\n")
        await _expect(child.stdout, b"ready\n")
        gc.collect()
        print(f"memory per connection  {(_resident() - before) / options.subscribers / 1024:8.1f} KB")
        await _rounds(options, edge, child.stdin, child.stdout)
        child.stdin.close()
        await child.wait()


async def _rounds(
    options: argparse.Namespace, edge: Edge, told: asyncio.StreamWriter, heard: asyncio.StreamReader
) -> None:
    sizes = FrameSizes()
    edge.hub.attach(sizes, ["tenant"])
    deliveries = options.events * options.subscribers
    wall, cpu = list[float](), list[float]()
    for _ in range(options.rounds):
        sizes.bytes = 0
        started, used = time.perf_counter(), time.process_time()
        for _ in range(options.events // options.batch):
            await edge.hub.publish([EVENT] * options.batch)
            await asyncio.sleep(0)
        told.write(b"%d\n" % (sizes.bytes * options.subscribers))
        await _expect(heard, b"done\n")
        wall.append(deliveries / (time.perf_counter() - started))
        cpu.append(deliveries / (time.process_time() - used))
        print(
            f"  {deliveries:,} deliveries of {sizes.bytes // options.events} bytes:"
            f" {wall[-1]:,.0f}/s, {cpu[-1]:,.0f} per CPU second of the server"
        )
    assert edge.endpoint.connections == options.subscribers, "a subscriber was cut"
    print(f"deliveries per second  {statistics.median(wall):10,.0f}")
    print(f"  per core             {statistics.median(cpu):10,.0f}")


async def _expect(stream: asyncio.StreamReader, line: bytes) -> None:
    said = await asyncio.wait_for(stream.readline(), 60)
    assert said == line, said


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--subscribers", type=int, default=1000)
    parser.add_argument("--events", type=int, default=200, help="per round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=1, help="events published in one turn of the loop")
    parser.add_argument("--as-subscribers", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.as_subscribers:
        uvloop.run(Subscribers().run())
        return
    for name, value in describe(("uvloop", "websockets", "msgspec")).items():
        print(f"{name:12} {value}")
    print(f"{options.subscribers} subscribers, {options.batch} event(s) per turn")
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) > 1:
        os.sched_setaffinity(0, {cores[0]})
    uvloop.run(measure(options, cores[1] if len(cores) > 1 else None))


if __name__ == "__main__":
    main()
