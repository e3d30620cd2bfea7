"""A server process with a directory and a loopback port of its own."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import random
import signal
import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path

START_S = 180.0
STOP_S = 20.0
QUIET = range(20_000, 32_000)
"""Ports that no outgoing connection is given: below Linux's ephemeral range, so that they are still free
when a server comes back after a stop."""

_given: set[int] = set()  # by this process, which may not listen on them yet: a RabbitMQ takes seconds
_NOTE = Path(tempfile.gettempdir()) / f"yuanlian-ports-{os.getuid()}"
"""A byte of it for each port, locked by the process that has given it, so that no other process of this user
does that knows the same directory for temporary files. The system lets the locks go with the process."""


class ServerError(RuntimeError):
    """The server is not installed, did not start or did not stop."""


class Server(ABC):
    """``start`` returns when the server answers; its data in ``directory`` survives ``stop``, ``kill``
    and a later ``start``, also that of another object and another process. ``port`` stays the same; 0
    picks that of the last start in the directory, or a free one when it is somebody else's now.

    A directory has one server at a time.
    """

    name: str

    def __init__(self, directory: Path, port: int = 0) -> None:
        self.directory = directory.absolute()
        self.port = port or self._last_port() or quiet_ports(1)[0]
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
        ServerError: with the end of the server's log, or another server has the directory.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        with self._held() as lock:
            try:
                self._port_file.write_text(str(self.port))
                self.prepare()
                self.process = self._spawned(lock)
                self._await_answer(self.process)
                self.set_up()
            except BaseException:
                self.kill()
                raise

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

    def _await_answer(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + START_S
        while not self.answers():
            if process.poll() is not None:
                raise ServerError(f"{self.name} ended with {process.returncode}: {self.log_tail()}")
            if time.monotonic() > deadline:
                raise ServerError(f"{self.name} does not answer after {START_S:.0f} s: {self.log_tail()}")
            time.sleep(0.05)

    def _spawned(self, lock: int) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.directory,
                env=self.environment(),
                start_new_session=True,  # a Ctrl-C at the terminal is for its owner to act upon
                pass_fds=(lock,),
            )
        self._lock.write_text(str(process.pid))
        return process

    @contextlib.contextmanager
    def _held(self) -> Iterator[int]:
        """The lock of the directory. The server inherits it: one that outlives whoever started it still
        keeps others out.

        Raises:
            ServerError: names the process that has it.
        """
        with self._lock.open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = f"{self.name} of process {self._lock.read_text()} runs in {self.directory}"
                raise ServerError(f"{holder}: stop it, or take another directory") from None
            yield lock.fileno()

    @property
    def _lock(self) -> Path:
        return self.directory / "lock"

    @property
    def _port_file(self) -> Path:
        return self.directory / "port"

    def _last_port(self) -> int:
        """0 when there is none, or it is taken."""
        try:
            port = int(self._port_file.read_text())
        except (OSError, ValueError):
            return 0
        return port if _is_free(port) and (port in _given or _take(port)) else 0

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


def quiet_ports(count: int) -> list[int]:
    """Free ports of ``QUIET``, given to nobody else in this process, nor in another of this user.

    Raises:
        ServerError: there are not so many.
    """
    found: list[int] = []
    for port in random.sample(QUIET, len(QUIET)):
        if len(found) == count:
            break
        if port not in _given and _is_free(port) and _take(port):
            found.append(port)
    if len(found) < count:
        raise ServerError("no free ports")
    return found


def _take(port: int) -> bool:
    """False when it is given already."""
    if port in _given:
        return False
    note = _note()
    try:
        fcntl.lockf(note, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
    except (BlockingIOError, PermissionError):  # by system
        return False
    _given.add(port)
    return True


@functools.cache
def _note() -> int:
    """Open until the process ends: closing it would let all its locks go.

    Raises:
        ServerError: it cannot be opened.
    """
    try:
        return os.open(_NOTE, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ServerError(f"no port can be given without {_NOTE}: {error.strerror}") from None


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except (OSError, OverflowError):  # taken, or no port at all
            return False
    return True


def listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.2)
        return probe.connect_ex(("127.0.0.1", port)) == 0
