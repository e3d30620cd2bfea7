"""Requests that are due at fixed times, whether or not the last one was answered (an open loop), and how
long after they were due their answers came.

    python -m bench.gateway.pace --port 8080 --rate 5000 --seconds 3 < request

The event loops' timers tick in milliseconds, in which a dozen requests would be due at once and queue
behind each other; so this one is driven by the kernel's timer (timerfd) and epoll.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import os
import re
import select
import socket
import struct
import sys
import time
from collections import deque

import msgspec

_CLOCK_MONOTONIC = 1
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_SETTLE_S = 2.0
_libc = ctypes.CDLL(None, use_errno=True)


class Pace(msgspec.Struct):
    """Of the counted seconds. ``failures``: answers other than 200, lost connections, none in time."""

    rate: float
    answered: int
    failures: int
    p50_ms: float
    p99_ms: float
    max_ms: float


class _Connection:
    __slots__ = ("buffer", "due", "socket")

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=5.0)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""
        self.due = 0.0

    def take(self, data: memoryview) -> bytes | None:
        """The status, once the answer is whole; answers must have a content-length."""
        self.buffer += data
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            return None
        length = _LENGTH.search(self.buffer, 0, end)
        if length is not None and len(self.buffer) < end + 4 + int(length[1]):
            return None
        status = self.buffer[9:12] if length is not None else b"000"
        self.buffer = b""
        return status


class _Run:
    def __init__(self, port: int, request: bytes, rate: float, connections: int) -> None:
        self._request = request
        self._step = round(1e9 / rate) / 1e9
        self._open = {c.socket.fileno(): c for c in (_Connection(port) for _ in range(connections))}
        self._idle = list(self._open.values())
        self._late: deque[float] = deque()
        self._busy = 0
        self._latencies: list[float] = []
        self._failures = 0
        self._count_from = 0.0
        # Read into, over and over: a new buffer of this size each time is a mapping made and torn down.
        self._space = memoryview(bytearray(262_144))

    def go(self, warm_up: float, seconds: float) -> Pace:
        poller = select.epoll()
        for descriptor in self._open:
            poller.register(descriptor, select.EPOLLIN)
        began = time.monotonic()
        self._count_from, until = began + warm_up, began + warm_up + seconds
        timer = _timer(self._step)
        poller.register(timer, select.EPOLLIN)
        due = began
        while due < until:
            for descriptor, _ in poller.poll():
                if descriptor != timer:
                    self._receive(descriptor)
                    continue
                for _ in range(struct.unpack("Q", os.read(timer, 8))[0]):
                    due += self._step
                    self._send(due)
        poller.unregister(timer)
        os.close(timer)
        while self._busy and time.monotonic() < until + _SETTLE_S:
            for descriptor, _ in poller.poll(0.1):
                self._receive(descriptor)
        return self._outcome(seconds)

    def _send(self, due: float) -> None:
        if not self._idle:
            self._late.append(due)
            return
        connection = self._idle.pop()
        connection.due = due
        self._busy += 1
        connection.socket.send(self._request)

    def _receive(self, descriptor: int) -> None:
        connection = self._open.get(descriptor)
        if connection is None:
            return
        count = connection.socket.recv_into(self._space)
        status = connection.take(self._space[:count]) if count else b"000"
        if status is None:
            return
        now = time.monotonic()
        self._busy -= 1
        if status != b"200":
            self._failures += 1
        elif connection.due >= self._count_from:
            self._latencies.append(now - connection.due)
        if not count:
            del self._open[descriptor]
            connection.socket.close()
            return
        self._idle.append(connection)
        if self._late:
            self._send(self._late.popleft())

    def _outcome(self, seconds: float) -> Pace:
        taken = sorted(self._latencies) or [0.0]
        return Pace(
            rate=len(self._latencies) / seconds,
            answered=len(self._latencies),
            failures=self._failures + self._busy + len(self._late),
            p50_ms=taken[len(taken) // 2] * 1000,
            p99_ms=taken[int(len(taken) * 0.99)] * 1000,
            max_ms=taken[-1] * 1000,
        )


def _timer(step: float) -> int:
    """A file descriptor that tells how often ``step`` seconds have passed since it was last read."""
    descriptor: int = _libc.timerfd_create(_CLOCK_MONOTONIC, 0)
    if descriptor < 0:
        raise OSError(ctypes.get_errno(), "timerfd_create")
    seconds, nanoseconds = divmod(round(step * 1e9), 1_000_000_000)
    times = struct.pack("llll", seconds, nanoseconds, seconds, nanoseconds)
    if _libc.timerfd_settime(descriptor, 0, times, None) < 0:
        raise OSError(ctypes.get_errno(), "timerfd_settime")
    return descriptor


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--port", type=int, required=True)
    arguments.add_argument("--rate", type=float, required=True)
    arguments.add_argument("--seconds", type=float, default=3.0)
    arguments.add_argument("--warm-up", type=float, default=1.0)
    arguments.add_argument("--connections", type=int, default=64)
    options = arguments.parse_args()
    request = sys.stdin.buffer.read()
    gc.disable()  # it would pause us, not the gateway
    run = _Run(options.port, request, options.rate, options.connections)
    sys.stdout.buffer.write(msgspec.json.encode(run.go(options.warm_up, options.seconds)) + b"\n")


if __name__ == "__main__":
    main()
