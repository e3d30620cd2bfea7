"""Random requests, valid and damaged, at a running platform, for as long as one likes.

    python -m tests.attacks.http.long_run --minutes 10 [--seed N] [--connections 16] [--distributed]

Starts ``yuanlian up --demo`` (or services and a gateway apart) on a folder of its own, without rate
limits, which would answer most of it, and fires: requests that are good, the same with bytes changed,
odd JSON in good requests, the attack corpus, nonsense, WebSockets that never say who they are. Watched:
no 5xx, no exchange without its answers, good requests answered well all the time, file descriptors and
memory flat after warming up. The same seed fires the same bytes in the same order on each connection.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import NamedTuple

import uvloop
import yaml
from tests.support.corpus import requests
from tests.support.shots import Shot, shots
from tests.support.strict_http import read_answers, read_requests
from tests.support.traffic import pieces

from bench.gateway.processes import family, free_port
from yuanlian.gateway.routes import DEFAULT_ROUTES

_PATIENCE_S = 10.0
_START_S = 30.0
_PASSWORD = "Demo@2026"


class Sample(NamedTuple):
    at_s: float
    memory_mb: float
    files: int


@dataclass
class Report:
    seed: int
    seconds: float = 0.0
    kinds: Counter[str] = field(default_factory=Counter)
    statuses: Counter[int] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)

    def growth(self) -> tuple[float, int]:
        """Megabytes and file descriptors between the second quarter and the last, on average."""
        early = [s for s in self.samples if 0.25 <= s.at_s / self.seconds < 0.5]
        late = [s for s in self.samples if s.at_s / self.seconds >= 0.75]
        memory = _mean(s.memory_mb for s in late) - _mean(s.memory_mb for s in early)
        return memory, round(_mean(s.files for s in late) - _mean(s.files for s in early))

    def __str__(self) -> str:
        memory, files = self.growth()
        last = self.samples[-1]
        lines = [
            f"seed {self.seed}, {self.seconds:.0f} s, {self.kinds.total()} connections, "
            f"{self.statuses.total()} answers",
            "sent      " + ", ".join(f"{kind} {count}" for kind, count in sorted(self.kinds.items())),
            "statuses  " + ", ".join(f"{status}: {count}" for status, count in sorted(self.statuses.items())),
            f"memory    {last.memory_mb:.0f} MB at the end, {memory:+.1f} MB since the second quarter",
            f"files     {last.files} at the end, {files:+d} since the second quarter",
            f"failures  {len(self.failures)}",
            *self.failures[:20],
        ]
        return "\n".join(lines)


def _mean(values: Iterable[float]) -> float:
    numbers = list(values)
    return sum(numbers) / len(numbers)


# --- sending it -------------------------------------------------------------------------------


async def _fire(port: int, shot: Shot, rng: Random, report: Report) -> None:
    reading = read_requests(shot.data)
    refused = reading.ending == "malformed" and b"\r\n\r\n" in reading.rest
    due = len(reading.messages) + refused
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    written, closed = b"", False
    try:
        for piece in pieces(rng, shot.data) if rng.random() < 0.3 else [shot.data]:
            if writer.transport.is_closing():
                break  # refused already
            writer.write(piece)
            await asyncio.sleep(0)
        while not closed and (_count(written) < due or shot.kind == "WebSocket"):
            async with asyncio.timeout(_PATIENCE_S):
                data = await reader.read(262144)
            written, closed = written + data, not data
    except TimeoutError:
        report.failures.append(f"no end: {shot.kind} {shot.data[:400]!r} got {written[:200]!r}")
    except ConnectionError:
        pass  # reset while we were still sending what was refused
    finally:
        writer.close()
    _judge(shot, written, report)


def _count(written: bytes) -> int:
    try:
        return sum(answer.status >= 200 for answer in read_answers(written))
    except ValueError:
        return 0  # the last one is not whole yet


def _judge(shot: Shot, written: bytes, report: Report) -> None:
    report.kinds[shot.kind] += 1
    if shot.kind == "WebSocket":
        statuses = [int(written[9:12] or b"0")]
    else:
        try:
            statuses = [answer.status for answer in read_answers(written) if answer.status >= 200]
        except ValueError as error:
            statuses = []
            report.failures.append(f"half an answer: {shot.kind} {shot.data[:400]!r}: {error}")
    report.statuses.update(statuses)
    if any(status >= 500 for status in statuses):
        report.failures.append(f"5xx: {shot.kind} {shot.data[:600]!r} got {written[:600]!r}")
    if shot.must and statuses != [shot.must]:
        report.failures.append(f"a good request got {statuses}: {shot.data[:200]!r} {written[:400]!r}")


# --- the platform -----------------------------------------------------------------------------


class Target(NamedTuple):
    """``pid``: the process that is watched, with its workers."""

    pid: int
    port: int


@contextmanager
def platform(folder: Path, *, distributed: bool = False) -> Iterator[Target]:
    """``yuanlian up --demo``, or ``run services`` behind ``run gateway``; without rate limits."""
    table = yaml.safe_load(DEFAULT_ROUTES.read_text("utf-8"))
    for route in table["routes"]:
        route.pop("rateLimit", None)
    routes = folder / "routes.yaml"
    routes.write_text(yaml.safe_dump(table), "utf-8")
    settings = {"ROUTES": str(routes), "JWT_SECRET": "a secret that gateway and services share"}
    port = free_port()
    with ExitStack() as stack:

        def start(*arguments: str, port: int, **more: str) -> int:
            return stack.enter_context(_running(folder, arguments, port, settings | more))

        if distributed:
            services = free_port()
            start("run", "services", "--demo", port=services)
            pid = start("run", "gateway", port=port, UPSTREAMS=f"*=http://127.0.0.1:{services}")
        else:
            pid = start("up", "--demo", port=port)
        yield Target(pid, port)


@contextmanager
def _running(
    folder: Path, arguments: tuple[str, ...], port: int, settings: Mapping[str, str]
) -> Iterator[int]:
    """Its process id. Nothing that it logs is kept."""
    command = [sys.executable, "-m", "yuanlian.runtime.cli", *arguments, "--port", str(port)]
    command += ["--admin-port", str(free_port()), "--data-dir", str(folder / arguments[-1].strip("-"))]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("YUANLIAN_")}
    environment |= {f"YUANLIAN_{name}": value for name, value in settings.items()}
    nowhere = subprocess.DEVNULL
    process = subprocess.Popen(command, stdout=nowhere, stderr=nowhere, env=environment, cwd=folder)
    try:
        _await_ready(process, port)
        yield process.pid
        assert process.poll() is None, f"{arguments} has ended"
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=20)


def _await_ready(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + _START_S
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2):
                return
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def sign_in(port: int) -> str:
    body = json.dumps({"data": {"username": "yuanzhang", "password": _PASSWORD}}).encode()
    login = urllib.request.Request(
        f"http://127.0.0.1:{port}/api/auth/login", body, {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(login, timeout=20) as answer:
        return str(json.load(answer)["data"]["accessToken"])


def _sample(pid: int, at_s: float) -> Sample:
    """Of the process and its workers."""
    memory = files = 0
    for process in family(pid):
        status = Path(f"/proc/{process}/status").read_text()
        memory += next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
        files += len(os.listdir(f"/proc/{process}/fd"))
    return Sample(at_s, memory / 1024, files)


async def attack(target: Target, token: str, seconds: float, seed: int, connections: int = 16) -> Report:
    """Fires until the time is over or twenty failures are found."""
    report = Report(seed)
    corpus = [case.data for case in requests()]
    begun = time.monotonic()

    async def client(number: int) -> None:
        rng = Random(f"{seed}/{number}")
        for shot in shots(rng, token, corpus):
            left = seconds - (time.monotonic() - begun)
            if left <= 0 or len(report.failures) >= 20:
                return
            if shot.kind == "WebSocket" and left < _PATIENCE_S:
                continue  # it is given five seconds to say who it is
            await _fire(target.port, shot, rng, report)

    async def watch() -> None:
        while True:
            report.samples.append(_sample(target.pid, time.monotonic() - begun))
            await asyncio.sleep(min(1.0, seconds / 40))

    watcher = asyncio.create_task(watch())
    await asyncio.gather(*map(client, range(connections)))
    watcher.cancel()
    report.seconds = time.monotonic() - begun
    return report


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.attacks.http.long_run")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4), "big"))
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--distributed", action="store_true", help="aim at `yuanlian run gateway`")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        platform(Path(folder), distributed=options.distributed) as target,
    ):
        token = sign_in(target.port)
        report = uvloop.run(attack(target, token, options.minutes * 60, options.seed, options.connections))
    sys.stdout.write(f"{report}\n")
    memory, files = report.growth()
    return 1 if report.failures or memory > 16 or files > 16 else 0


if __name__ == "__main__":
    sys.exit(main())
