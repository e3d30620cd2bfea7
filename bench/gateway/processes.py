"""Programs that a run starts, each on its core, and what they cost. Whatever happens, they end with it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.machine import cpu_us

START_S = 20.0
STOP_S = 5.0
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


class DidNotStartError(Exception):
    """With what the program said before it gave up."""


@dataclass(frozen=True, slots=True)
class Cores:
    """Where the gateway runs, and where generator and upstream do. None: where the system likes."""

    gateway: int | None = None
    others: int | None = None


def on_core(core: int | None) -> Callable[[], None]:
    """For ``Popen(preexec_fn=…)``: one core, and gone when this process is, even by ``kill -9``."""

    def prepare() -> None:
        if core is not None:
            os.sched_setaffinity(0, {core})
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

    return prepare


@contextlib.contextmanager
def running(
    command: list[str], core: int | None, log: Path, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """The program, until the block ends. ``log``: gets what it prints."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
            preexec_fn=on_core(core),
        )
    try:
        yield process
    finally:
        stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    children = [pid for pid in family(process.pid) if pid != process.pid]
    process.terminate()
    try:
        process.wait(timeout=STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        for pid in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def await_answer(
    process: subprocess.Popen[bytes], port: int, request: bytes, log: Path, status: bytes = b" 200 "
) -> None:
    """Returns once the server answers ``request`` with this status.

    Raises:
        DidNotStartError: it ended, or does not within ``START_S``.
    """
    deadline = time.monotonic() + START_S
    answer = b""
    while time.monotonic() < deadline and process.poll() is None:
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", port), timeout=2.0) as probe,
        ):
            probe.sendall(request)
            answer = probe.recv(65536)
            if answer.startswith(b"HTTP/1.1" + status):
                return
        time.sleep(0.05)
    said = log.read_text(errors="replace")[-2000:]
    raise DidNotStartError(f"last answer {answer[:300]!r}\n{said}")


def status_of(port: int, request: bytes) -> int:
    """The status of one answer; 0 when there is none."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5.0) as probe:
        probe.sendall(request)
        return int(probe.recv(65536)[9:12] or b"0")
    return 0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def family(pid: int) -> list[int]:
    """A process and its descendants (nginx's worker, ours)."""
    found = [pid]
    for parent in found:
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{parent}/task").iterdir():
                found += [int(child) for child in (task / "children").read_text().split()]
    return found


def family_cpu_us(pid: int) -> float:
    return sum(cpu_us(member) for member in family(pid))


def family_memory_kib(pid: int) -> int:
    """Resident memory; pages that a parent and its worker share count once for each."""
    return sum(_resident_kib(member) for member in family(pid))


def _resident_kib(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    return 0
