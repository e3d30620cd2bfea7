"""The parent of a service's workers, with shell scripts in the place of services."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs
from tests.support.command_line import Run, run

from yuanlian.runtime import replicas
from yuanlian.runtime.replicas import FIRST_PAUSE_S, Replicas, ReplicasFailedError, commands_for
from yuanlian.runtime.settings import Settings, UnsupportedSettingError
from yuanlian.runtime.stopping import FORCED_S, Stop

__all__ = ["run"]

SERVES = "printf . >&0; exec sleep 60"
DRAINS = "trap 'exit 0' TERM; printf . >&0; while :; do sleep 0.02; done"
NEVER_ENDS = "trap '' TERM; printf . >&0; while :; do sleep 0.02; done"
FAILS = "exit 7"
HANGS = "exec sleep 60"
FOREVER_S = 3600.0
"""So long after a stop the process of the tests would be ended, too."""


@pytest.fixture(autouse=True)
def heard(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """``capture_logs`` hears nothing of a log that an earlier test made quiet, or that is kept from then."""
    before = structlog.get_config()
    everything = structlog.make_filtering_bound_logger(logging.NOTSET)
    structlog.configure(wrapper_class=everything, cache_logger_on_first_use=False)
    monkeypatch.setattr(replicas, "_log", structlog.get_logger("runtime"))
    yield
    structlog.configure(**before)


class Parent:
    """``begun``: one line per start of a script, with the number of the worker, its process, and when."""

    def __init__(self, folder: Path, *scripts: str, drain_s: float = 5.0) -> None:
        self._begun = folder / "begun"
        self._begun.touch()
        note = f"echo {{}} $$ $(date +%s.%N) >> {self._begun}; "
        commands = [["sh", "-c", note.format(index) + script] for index, script in enumerate(scripts)]
        self.stop = Stop(FOREVER_S)
        self.replicas = Replicas(commands, self.stop, drain_s)

    @property
    def begun(self) -> list[tuple[int, int, float]]:
        lines = [line.split() for line in self._begun.read_text().splitlines()]
        return [(int(index), int(pid), float(at)) for index, pid, at in lines]

    def pids(self, index: int) -> list[int]:
        return [pid for number, pid, _ in self.begun if number == index]

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[list[Any]]:
        """What is logged; when all serve."""
        with capture_logs() as logs:
            work = asyncio.create_task(self.replicas.serve())
            try:
                await until(lambda: told(logs, "worker started") == len(self.replicas._commands))
                yield logs
            finally:
                self.stop.ask()
                await work
        assert not any(exists(pid) for _, pid, _ in self.begun)


def told(logs: list[Any], message: str) -> int:
    return sum(entry["event"] == message for entry in logs)


async def until(check: Any) -> None:
    async with asyncio.timeout(60):
        while not check():
            await asyncio.sleep(0.01)


def exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_all_are_there_and_drain_when_asked(tmp_path: Path) -> None:
    async def scenario() -> None:
        parent = Parent(tmp_path, DRAINS, DRAINS, DRAINS)
        async with parent.serving() as logs:
            assert parent.begun[0][0] == 0, "the first makes what the others use"
            assert len(parent.begun) == 3
        ends = [(entry["log_level"], entry["how"]) for entry in logs if entry["event"] == "worker ended"]
        assert ends == [("info", "exit status 0")] * 3

    asyncio.run(scenario())


def test_one_that_is_killed_is_started_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        parent = Parent(tmp_path, DRAINS, DRAINS)
        async with parent.serving() as logs:
            [victim] = parent.pids(1)
            os.kill(victim, signal.SIGKILL)
            await until(lambda: told(logs, "worker started") == 3)
            assert (len(parent.pids(0)), len(parent.pids(1))) == (1, 2)
        [end] = [entry for entry in logs if entry["event"] == "worker ended" and entry["pid"] == victim]
        assert (end["log_level"], end["worker"], end["how"]) == ("error", 1, "SIGKILL")

    asyncio.run(scenario())


def test_one_that_ends_again_and_again_is_waited_for_longer_each_time(tmp_path: Path) -> None:
    async def scenario() -> None:
        once = f"[ $(grep -c '^1 ' {tmp_path}/begun) = 1 ] || exit 1; printf . >&0; exit 0"
        parent = Parent(tmp_path, DRAINS, once)
        async with parent.serving():
            await until(lambda: len(parent.pids(1)) == 3)
        first, second, third = (at for index, _, at in parent.begun if index == 1)
        assert second - first >= FIRST_PAUSE_S
        assert third - second >= 2 * FIRST_PAUSE_S

    asyncio.run(scenario())


def test_when_the_first_cannot_serve_the_others_are_not_tried(tmp_path: Path) -> None:
    async def scenario() -> None:
        parent = Parent(tmp_path, FAILS, DRAINS)
        with capture_logs() as logs, pytest.raises(ReplicasFailedError):
            await parent.replicas.serve()
        assert [index for index, _, _ in parent.begun] == [0]
        assert [entry["how"] for entry in logs if entry["event"] == "worker ended"] == ["exit status 7"]

    asyncio.run(scenario())


def test_when_another_cannot_serve_none_is_left_running(tmp_path: Path) -> None:
    async def scenario() -> None:
        parent = Parent(tmp_path, DRAINS, DRAINS, FAILS)
        with pytest.raises(ReplicasFailedError):
            await parent.replicas.serve()
        assert len(parent.begun) == 3
        assert not any(exists(pid) for _, pid, _ in parent.begun)

    asyncio.run(scenario())


def test_a_command_that_is_not_there_is_a_failure_like_others() -> None:
    async def scenario() -> None:
        with pytest.raises(ReplicasFailedError):
            await Replicas([["/nowhere/yuanlian"]], Stop(FOREVER_S), 1.0).serve()

    asyncio.run(scenario())


def test_a_stop_does_not_wait_for_a_start(tmp_path: Path) -> None:
    async def scenario() -> None:
        parent = Parent(tmp_path, DRAINS, HANGS)
        work = asyncio.create_task(parent.replicas.serve())
        await until(lambda: len(parent.begun) == 2)
        parent.stop.ask()
        async with asyncio.timeout(30):
            await work
        assert not any(exists(pid) for _, pid, _ in parent.begun)

    asyncio.run(scenario())


def test_a_stop_while_one_is_waited_for_starts_no_more(tmp_path: Path) -> None:
    async def scenario() -> None:
        parent = Parent(tmp_path, DRAINS, SERVES)
        async with parent.serving() as logs:
            os.kill(parent.pids(1)[0], signal.SIGKILL)
            await until(lambda: told(logs, "worker ended") == 1)
        assert len(parent.begun) == 2

    asyncio.run(scenario())


def test_one_that_does_not_end_is_killed(tmp_path: Path) -> None:
    async def scenario() -> None:
        parent = Parent(tmp_path, NEVER_ENDS, drain_s=0.1)
        async with parent.serving() as logs:
            asked = time.monotonic()
        assert time.monotonic() - asked >= 0.1 + 2 * FORCED_S
        assert told(logs, "worker does not end; killed") == 1

    asyncio.run(scenario())


# --- what a worker is -------------------------------------------------------------------------------


def _settings(**changes: Any) -> Settings:
    return Settings(**{"workers": 3, "services_port": 9101, "services_admin_port": 9181} | changes)


def _values(commands: list[list[str]], option: str) -> list[str]:
    return [command[command.index(option) + 1] for command in commands]


def test_workers_have_ports_one_after_the_other_and_one_loads_the_demonstration() -> None:
    commands = commands_for("tenant", _settings(services_host="10.0.0.5", data_dir=Path("data")), demo=True)
    assert _values(commands, "--port") == ["9101", "9102", "9103"]
    assert _values(commands, "--admin-port") == ["9181", "9182", "9183"]
    assert _values(commands, "--host") == ["10.0.0.5"] * 3
    assert _values(commands, "--data-dir") == ["data"] * 3
    assert ["--demo" in command for command in commands] == [True, False, False]


def test_port_zero_is_a_free_one_for_each() -> None:
    commands = commands_for("tenant", _settings(services_port=0, services_admin_port=0), demo=False)
    assert _values(commands, "--port") == _values(commands, "--admin-port") == ["0"] * 3
    assert not any("--demo" in command for command in commands)


def test_more_workers_than_ports_are_refused() -> None:
    with pytest.raises(UnsupportedSettingError, match="YUANLIAN_SERVICES_ADMIN_PORT: 3 workers"):
        commands_for("tenant", _settings(services_admin_port=65534), demo=False)
    commands_for("tenant", _settings(services_admin_port=65533), demo=False)


@pytest.mark.parametrize("service", ["gateway", "tenant"])
def test_fewer_than_one_worker_are_refused(run: Run, service: str) -> None:
    result = run("run", service, "--workers", "0")
    assert result.exit_code == 1
    assert "YUANLIAN_WORKERS: Input should be greater than or equal to 1" in result.stderr


def test_what_the_first_worker_cannot_follow_it_says_itself(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("YUANLIAN_")}
    command = [sys.executable, "-m", "yuanlian.runtime.cli", "run", "auth", "--workers", "3", "--port", "0"]
    result = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 1
    assert result.stderr.count("YUANLIAN_DATABASE_URL: a service in a process of its own needs mysql") == 1
    assert result.stderr.endswith("yuanlian: a worker ended before it could serve; what it said is above\n")
    assert "Traceback" not in result.stderr


# --- a worker whose parent is gone ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("heeds", "end"), [("SIG_DFL", signal.SIGTERM), ("SIG_IGN", signal.SIGKILL)], ids=["ends", "is ended"]
)
@pytest.mark.parametrize(
    "reading", [0, socket.MSG_PEEK], ids=["the parent had heard of it", "its word was not read"]
)
def test_a_worker_does_not_outlive_its_parent(heeds: str, end: signal.Signals, reading: int) -> None:
    script = (
        "import signal, time\n"
        "from yuanlian.runtime.replica import end_with_parent, tell_parent\n"
        f"signal.signal(signal.SIGTERM, signal.{heeds})\n"
        "end_with_parent(0.1)\n"
        "tell_parent()\n"
        "time.sleep(60)\n"
    )
    ours, theirs = socket.socketpair()
    with theirs:
        worker = subprocess.Popen(
            [sys.executable, "-c", script], stdin=theirs.fileno(), stdout=subprocess.DEVNULL
        )
    with ours:
        assert ours.recv(1, reading) == b"."
    assert worker.wait(30) == -end
