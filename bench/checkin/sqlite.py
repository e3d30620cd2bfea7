"""What the contenders of the embedded shape have in common: one process and its database file."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import time
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from bench.checkin.contender import Contender, Count, Served
from bench.checkin.dataset import SECRET
from bench.machine import pinned
from deploy.servers.server import free_port, listens

START_S = 30.0
STOP_S = 15.0


class OneProcess(Contender):
    def __init__(self, directory: Path, cores: tuple[int, int] | None) -> None:
        super().__init__(directory, cores)
        self.database = directory / "bench.db"

    @abstractmethod
    def command(self, port: int) -> list[str]: ...

    @contextmanager
    def serving(self) -> Iterator[Served]:
        port = free_port()
        environment = {k: v for k, v in os.environ.items() if not k.startswith("YUANLIAN_")}
        environment |= {"YUANLIAN_JWT_SECRET": SECRET, "PYTHONPATH": os.getcwd()}
        with self._log.open("wb") as log:
            process = subprocess.Popen(
                self.command(port),
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                preexec_fn=pinned(self.cores[0]),
            )
        try:
            self._await(process, port)
            yield Served(port, {"server": process.pid})
        finally:
            process.terminate()
            try:
                process.wait(timeout=STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    @contextmanager
    def counting(self) -> Iterator[Count]:
        with closing(sqlite3.connect(f"file:{self.database}?mode=ro", uri=True, timeout=30)) as connection:
            yield lambda what: int(connection.execute(f"SELECT {what}").fetchone()[0] or 0)

    def log_tail(self) -> str:
        return self._log.read_text(errors="replace")[-3000:]

    @property
    def _log(self) -> Path:
        return self.directory / "server.log"

    def _await(self, process: subprocess.Popen[bytes], port: int) -> None:
        deadline = time.perf_counter() + START_S
        while time.perf_counter() < deadline and process.poll() is None:
            if listens(port):
                return
            time.sleep(0.02)
        raise RuntimeError(f"{self.name} did not start:\n{self.log_tail()}")
