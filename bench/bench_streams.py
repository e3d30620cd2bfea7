"""Long bodies through the gateway, in both directions, and the memory that they take.

    python -m bench.bench_streams [--mib 1024] [--slow] [--http]

A gateway runs in a process of its own, in front of an application that makes and counts bytes; with
``--http``, it reaches it through a second one. This process downloads and uploads ``--mib`` mebibytes;
with ``--slow``, each side also waits for the other: a reader that stops for a second, and an application
that does. Prints one JSON object: for each way, seconds and by how many MiB the gateway's peak of
resident memory grew.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import subprocess
import sys
import time
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from typing import Any

MIB = 1024 * 1024
_PIECE = b"\xa5" * (128 * 1024)
_ROUTES = f"""
routes:
  - {{path: /bytes/*, service: svc, methods: [GET, POST], auth: false, maxBodyBytes: {4096 * MIB}}}
"""


async def _bytes(scope: Any, receive: Any, send: Any) -> None:
    """``GET /bytes/N`` answers N bytes; ``POST /bytes/MS`` waits so long in the middle, and answers how
    many bytes it got."""
    number = int(scope["path"].rpartition("/")[2])
    if scope["method"] == "GET":
        length = [(b"content-length", b"%d" % number)]
        await send({"type": "http.response.start", "status": 200, "headers": length})
        for start in range(0, number, len(_PIECE)):
            piece = _PIECE[: number - start]
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
        return
    received, more = 0, True
    while more:
        message = await receive()
        if not received:
            await asyncio.sleep(number / 1000)
        received += len(message["body"])
        more = message["more_body"]
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"%d" % received})


async def _serve(instance: str | None) -> None:
    """Prints the port; then, for each line on standard input, by how many bytes the peak of resident
    memory since the line before is over what was resident then."""
    from tests.support.edge import edge
    from tests.support.instances import upstream_to

    async with AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(upstream_to([instance])) if instance else None
        e = await stack.enter_async_context(edge(_bytes, upstream=upstream, routes=_ROUTES))
        print(e.port, flush=True)
        resident = 0
        while await asyncio.to_thread(sys.stdin.readline):
            print(_memory("VmHWM") - resident, flush=True)
            Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew (man 5 proc)
            resident = _memory("VmRSS")


def _memory(figure: str) -> int:
    """``VmRSS`` or ``VmHWM`` (its peak) in bytes; ``ru_maxrss`` would begin with that of the parent."""
    status = Path("/proc/self/status").read_text().splitlines()
    (line,) = [line for line in status if line.startswith(figure)]
    return int(line.split()[1]) * 1024


class Served:
    """The gateway in its process; ``instance``: base URL of what it stands before, else an application."""

    def __init__(self, instance: str | None = None) -> None:
        command = [sys.executable, "-m", "bench.bench_streams", "--serve"]
        command += ["--instance", instance] if instance else []
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.port = int(self._line())

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def grown(self) -> int:
        """Bytes, since it was last asked."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return int(self._line())

    def stop(self) -> None:
        self._process.communicate(timeout=10)


def _download(port: int, size: int, pause_s: float) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(b"GET /bytes/%d HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" % size)
        time.sleep(pause_s)
        received, buffer = 0, bytearray(256 * 1024)
        head = connection.recv(100)
        while count := connection.recv_into(buffer):
            received += count
    if not head.startswith(b"HTTP/1.1 200") or received < size:
        raise SystemExit(f"{received} of {size} bytes, {head!r}")


def _upload(port: int, size: int, pause_s: float) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        target = b"/bytes/%d" % (pause_s * 1000)
        head = b"POST %b HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"
        connection.sendall(head % (target, size))
        for start in range(0, size, len(_PIECE)):
            connection.sendall(_PIECE[: size - start])
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
    if not answer.endswith(b"\r\n\r\n%d" % size):
        raise SystemExit(f"the application got {answer[-100:]!r}")


def measure(size: int, *, slow: bool, http: bool = False) -> dict[str, dict[str, float]]:
    """``{way: {"seconds": …, "extra_mib": …}}`` of ``size`` bytes each way."""
    figures = {}
    with ExitStack() as stack:
        served = Served()
        stack.callback(served.stop)
        if http:
            served = Served(f"http://127.0.0.1:{served.port}")
            stack.callback(served.stop)
        for way in (_download, _upload):
            way(served.port, MIB, 0)  # what a first request needs is not the stream's
        ways = [("download", _download, 0.0), ("upload", _upload, 0.0)]
        if slow:
            ways += [("download, slow reader", _download, 1.0), ("upload, slow service", _upload, 1.0)]
        for name, way, pause_s in ways:
            served.grown()
            started = time.perf_counter()
            way(served.port, size, pause_s)
            seconds = time.perf_counter() - started
            figures[name] = {
                "seconds": round(seconds, 2),
                "extra_mib": round(served.grown() / MIB, 2),
            }
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--slow", action="store_true")
    parser.add_argument("--http", action="store_true")
    parser.add_argument("--instance", help=argparse.SUPPRESS)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        import uvloop

        uvloop.run(_serve(options.instance))
    else:
        print(json.dumps(measure(options.mib * MIB, slow=options.slow, http=options.http), indent=2))


if __name__ == "__main__":
    main()
