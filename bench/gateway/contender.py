"""One gateway of the comparison: its programs, running, and what it cost."""

from __future__ import annotations

import contextlib
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.gateway.processes import (
    Cores,
    DidNotStartError,
    await_answer,
    family_cpu_us,
    family_memory_kib,
    free_port,
    running,
    status_of,
)
from bench.gateway.scenario import GET, request_bytes


@dataclass(frozen=True, slots=True)
class Stage:
    """Where a contender runs: a folder of its own, the upstream's port, the cores, the token."""

    run: Path
    upstream: int
    cores: Cores
    token: str


@dataclass(frozen=True, slots=True)
class Serving:
    """A gateway that answers. ``process``: the one whose family is measured."""

    port: int
    process: subprocess.Popen[bytes]

    def cpu_us(self) -> float:
        return family_cpu_us(self.process.pid)

    def memory_kib(self) -> int:
        return family_memory_kib(self.process.pid)


class Contender(ABC):
    """``features``: what it does for each request besides forwarding it; that it does check tokens and
    write its log is verified, not believed."""

    key: str
    name: str
    features: str
    checks_token: bool = False
    writes_log: bool = False

    @contextlib.contextmanager
    def serving(self, stage: Stage) -> Iterator[Serving]:
        """Raises:
        DidNotStartError: with what it said, or it lets pass what it should not.
        """
        log = stage.run / "output.log"
        with self.beside(stage):
            port = free_port()
            command, environment = self.command(stage, port)
            with running(command, stage.cores.gateway, log, environment) as process:
                await_answer(process, port, request_bytes(GET, port, stage.token), log)
                status = status_of(port, request_bytes(GET, port, stage.token[:-4] + "AAAA"))
                if status != (401 if self.checks_token else 200):
                    raise DidNotStartError(f"{self.name}: a forged token is answered with {status}")
                yield Serving(port, process)

    def log_file(self, stage: Stage) -> Path:
        return stage.run / "access.log"

    @abstractmethod
    def command(self, stage: Stage, port: int) -> tuple[list[str], Mapping[str, str]]:
        """The program and what its environment has besides; files it needs are written to
        ``stage.run``."""

    @contextlib.contextmanager
    def beside(self, stage: Stage) -> Iterator[None]:
        """What else has to run, on the other core."""
        del stage
        yield
