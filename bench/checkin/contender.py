"""What is common to both sides of the comparison: a server process and its database file."""

from __future__ import annotations

import os
import socket
import sqlite3
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from bench.checkin.dataset import SECRET, Dataset
from bench.load import Outcome
from bench.machine import cpu_us, peak_memory_mib, pinned

START_S = 30.0
DRAIN_S = 120.0


class Measured(msgspec.Struct):
    """One run. ``corridor_rate``: acknowledged check-ins per second until everything they cause was
    done; ``drain_s``: how long that took after the last answer. CPU is the server's alone."""

    contender: str
    outcome: Outcome
    drain_s: float
    corridor_rate: float
    cpu_us_per_checkin: float
    memory_mib: float
    verified: dict[str, int]
    wrong: list[str]


@dataclass(frozen=True, slots=True)
class Load:
    plan: Path
    seconds: float
    warm_up: float
    connections: int
    rate: float | None = None


class Contender(ABC):
    """``cores``: the server's and the generator's; None leaves it to the system."""

    name: str

    def __init__(self, directory: Path, cores: tuple[int, int] | None) -> None:
        self.directory = directory
        self._cores = cores or (None, None)
        self.database = directory / "bench.db"

    @abstractmethod
    def prepare(self, dataset: Dataset) -> None:
        """Makes the database, once for all runs."""

    @abstractmethod
    def command(self, port: int) -> list[str]: ...

    @abstractmethod
    def work_left(self, connection: sqlite3.Connection) -> bool:
        """Whether something that a check-in caused has not been done yet."""

    @abstractmethod
    def effects(self, connection: sqlite3.Connection) -> dict[str, int]:
        """Rows by what they should be equal to: acknowledged check-ins, or ``… x guardians``."""

    @contextmanager
    def serving(self) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
        port = _free_port()
        environment = {k: v for k, v in os.environ.items() if not k.startswith("YUANLIAN_")}
        environment |= {"YUANLIAN_JWT_SECRET": SECRET, "PYTHONPATH": os.getcwd()}
        with (self.directory / "server.log").open("wb") as log:
            process = subprocess.Popen(
                self.command(port),
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                preexec_fn=pinned(self._cores[0]),
            )
            try:
                self._await(process, port)
                yield process, port
            finally:
                process.terminate()
                try:
                    process.wait(timeout=15)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()

    def measure(self, process: subprocess.Popen[bytes], port: int, load: Load, guardians: int) -> Measured:
        before = self._effects()
        cpu_before, started = cpu_us(process.pid), time.perf_counter()
        outcome = self._run_load(port, load)
        answered = time.perf_counter()
        self._drain()
        drained = time.perf_counter()
        done = {name: count - before[name] for name, count in self._effects().items()}
        acknowledged = outcome.acknowledged
        return Measured(
            contender=self.name,
            outcome=outcome,
            drain_s=drained - answered,
            corridor_rate=acknowledged / (drained - started),
            cpu_us_per_checkin=(cpu_us(process.pid) - cpu_before) / max(1, acknowledged),
            memory_mib=peak_memory_mib(process.pid),
            verified=done,
            wrong=[
                f"{name}: {count}, expected {expected}"
                for name, count in done.items()
                if count != (expected := acknowledged * (guardians if name == "notifications" else 1))
            ],
        )

    def log_tail(self) -> str:
        return (self.directory / "server.log").read_text(errors="replace")[-3000:]

    def _run_load(self, port: int, load: Load) -> Outcome:
        command = [sys.executable, "-m", "bench.load", "--port", str(port), "--plan", str(load.plan)]
        command += ["--seconds", str(load.seconds), "--warm-up", str(load.warm_up)]
        command += ["--connections", str(load.connections)]
        if load.rate is not None:
            command += ["--rate", str(load.rate)]
        finished = subprocess.run(
            command, stdout=subprocess.PIPE, check=True, preexec_fn=pinned(self._cores[1]), timeout=300
        )
        return msgspec.json.decode(finished.stdout, type=Outcome)

    def _connect(self) -> closing[sqlite3.Connection]:
        return closing(sqlite3.connect(f"file:{self.database}?mode=ro", uri=True, timeout=30))

    def _effects(self) -> dict[str, int]:
        with self._connect() as connection:
            return self.effects(connection)

    def _drain(self) -> None:
        deadline = time.perf_counter() + DRAIN_S
        with self._connect() as connection:
            while self.work_left(connection) and time.perf_counter() < deadline:
                time.sleep(0.01)

    def _await(self, process: subprocess.Popen[bytes], port: int) -> None:
        deadline = time.perf_counter() + START_S
        while time.perf_counter() < deadline and process.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return
            time.sleep(0.02)
        raise RuntimeError(f"{self.name} did not start:\n{self.log_tail()}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def count(connection: sqlite3.Connection, what: str) -> int:
    """``what``: an expression and where it comes from, ours, never input."""
    row = connection.execute(f"SELECT {what}").fetchone()
    return int(row[0] or 0)
