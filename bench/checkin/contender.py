"""What is common to all sides of a comparison: processes, the load on them and what came of it."""

from __future__ import annotations

import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from bench.checkin.dataset import Dataset
from bench.gateway.processes import family_cpu_us
from bench.load import Outcome
from bench.machine import peak_memory_mib, pinned

DRAIN_S = 60.0
PER_GUARDIAN = frozenset(("notifications",))

Count = Callable[[str], int]
"""``SELECT`` of this, in the contender's database: an expression and where it comes from, ours, never
input."""


class Measured(msgspec.Struct):
    """One run. ``corridor_rate``: acknowledged check-ins per second until everything they cause was
    done; ``drain_s``: how long that took after the last answer. CPU is that of all the contender's
    processes, and of each; a database server's has our counting in it."""

    contender: str
    connections: int
    outcome: Outcome
    drain_s: float
    corridor_rate: float
    cpu_us_per_checkin: float
    cpu_us_by_process: dict[str, float]
    memory_mib: float
    verified: dict[str, int]
    wrong: list[str]


@dataclass(frozen=True, slots=True)
class Served:
    """``processes``: their names and pids; what a process has started counts as its own."""

    port: int
    processes: dict[str, int]

    def cpu_us(self) -> dict[str, float]:
        return {name: family_cpu_us(pid) for name, pid in self.processes.items()}


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
    ours = False
    look_s = 0.01
    """Between two looks at what is left to do."""

    def __init__(self, directory: Path, cores: tuple[int, int] | None) -> None:
        self.directory = directory
        self.cores = cores or (None, None)

    @abstractmethod
    def prepare(self, dataset: Dataset) -> None:
        """Makes the database, once for all runs."""

    @abstractmethod
    def serving(self) -> AbstractContextManager[Served]:
        """The contender at work, until the block ends."""

    @abstractmethod
    def counting(self) -> AbstractContextManager[Count]: ...

    @abstractmethod
    def work_left(self, count: Count) -> bool:
        """Whether something that a check-in caused has not been done yet."""

    @abstractmethod
    def effects(self, count: Count) -> dict[str, int]:
        """Rows by what they should be equal to: acknowledged check-ins, or ``… x guardians``."""

    @abstractmethod
    def log_tail(self) -> str: ...

    def close(self) -> None:  # noqa: B027 - most keep nothing
        """Stops what has run since ``prepare``."""

    def measure(self, served: Served, load: Load, guardians: int) -> Measured:
        with self.counting() as count:
            before = self.effects(count)
            cpu_before, started = served.cpu_us(), time.perf_counter()
            outcome = self._run_load(served.port, load)
            answered = time.perf_counter()
            expected = {
                name: number + outcome.acknowledged * (guardians if name in PER_GUARDIAN else 1)
                for name, number in before.items()
            }
            self._drain(count, expected)
            drained = time.perf_counter()
            cpu = {name: used - cpu_before[name] for name, used in served.cpu_us().items()}
            after = self.effects(count)
        each = max(1, outcome.acknowledged)
        return Measured(
            contender=self.name,
            connections=load.connections,
            outcome=outcome,
            drain_s=drained - answered,
            corridor_rate=outcome.acknowledged / (drained - started),
            cpu_us_per_checkin=sum(cpu.values()) / each,
            cpu_us_by_process={name: used / each for name, used in cpu.items()},
            memory_mib=sum(peak_memory_mib(pid) for pid in served.processes.values()),
            verified={name: number - before[name] for name, number in after.items()},
            wrong=[
                f"{name}: {number - before[name]}, expected {expected[name] - before[name]}"
                for name, number in after.items()
                if number != expected[name]
            ],
        )

    def _run_load(self, port: int, load: Load) -> Outcome:
        command = [sys.executable, "-m", "bench.load", "--port", str(port), "--plan", str(load.plan)]
        command += ["--seconds", str(load.seconds), "--warm-up", str(load.warm_up)]
        command += ["--connections", str(load.connections)]
        if load.rate is not None:
            command += ["--rate", str(load.rate)]
        finished = subprocess.run(
            command, stdout=subprocess.PIPE, check=True, preexec_fn=pinned(self.cores[1]), timeout=300
        )
        return msgspec.json.decode(finished.stdout, type=Outcome)

    def _drain(self, count: Count, expected: dict[str, int]) -> None:
        deadline = time.perf_counter() + DRAIN_S
        while time.perf_counter() < deadline and (self.work_left(count) or self.effects(count) != expected):
            time.sleep(self.look_s)
