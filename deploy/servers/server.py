"""A server process with a directory and a loopback port of its own."""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from pathlib import Path

START_S = 60.0
STOP_S = 20.0


class ServerError(RuntimeError):
    """The server is not installed, did not start or did not stop."""


class Server(ABC):
    """``start`` returns when the server answers; its data in ``directory`` survives ``stop``, ``kill``
    and a later ``start``. ``port`` stays the same; 0 picks a free one."""

    name: str

    def __init__(self, directory: Path, port: int = 0) -> None:
        self.directory = directory.absolute()
        self.port = port or free_port()
        self.process: subprocess.Popen[bytes] | None = None

    @classmethod
    @abstractmethod
    def installed(cls) -> bool: ...

    @property
    @abstractmethod
    def url(self) -> str:
        """As the platform's settings take it."""

    @abstractmethod
    def prepare(self) -> None:
        """Makes what the first start needs; called before every start."""

    @abstractmethod
    def command(self) -> list[str]:
        """Runs in the foreground."""

    def environment(self) -> dict[str, str] | None:
        """None for that of the caller."""
        return None

    @abstractmethod
    def answers(self) -> bool:
        """Whether the server can be used now; False, never an error, while it starts."""

    def set_up(self) -> None:  # noqa: B027 - most servers need nothing
        """What is to be made in a server that has just begun to answer, every time."""

    def start(self) -> None:
        """Raises:
        ServerError: with the end of the server's log.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        self.prepare()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.directory,
                env=self.environment(),
                start_new_session=True,  # a Ctrl-C at the terminal is for its owner to act upon
            )
        deadline = time.monotonic() + START_S
        while not self.answers():
            if self.process.poll() is not None:
                raise ServerError(f"{self.name} ended with {self.process.returncode}: {self.log_tail()}")
            if time.monotonic() > deadline:
                self.kill()
                raise ServerError(f"{self.name} does not answer after {START_S:.0f} s: {self.log_tail()}")
            time.sleep(0.05)
        self.set_up()

    def stop(self) -> None:
        """In order, as an operator would."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """As a power cut would."""
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """Connections stay open, nothing answers."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    @property
    def log(self) -> Path:
        return self.directory / f"{self.name}.log"

    def log_tail(self) -> str:
        return self.log.read_text(errors="replace")[-2000:]

    def _end(self, how: signal.Signals) -> None:
        process, self.process = self.process, None
        if process is None or process.poll() is not None:
            return
        process.send_signal(how)
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.2)
        return probe.connect_ex(("127.0.0.1", port)) == 0
