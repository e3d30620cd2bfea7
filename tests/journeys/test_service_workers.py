"""``yuanlian run SERVICE --workers N``: so many instances at the gateway, whatever becomes of one of them,
and none without its parent.

Distributed by nature: the embedded platform is one process.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from tests.support.platform import eventually

from deploy.distributed import Distributed, Part

SERVICE = "notification"
START_S = 60.0


class Workers:
    """Two of the notification service, beside the one that the platform has."""

    def __init__(self, platform: Distributed, folder: Path) -> None:
        command = ["run", SERVICE, "--workers", "2", "--port", "0", "--admin-port", "0"]
        self.parent = Part(SERVICE, command, platform.parts["gateway"].environment, folder / "workers.log")
        self._platform = platform

    def told(self, message: str) -> list[int]:
        """Of which processes the parent said that, in order."""
        lines = [line for line in self.parent.log.read_text("utf-8").splitlines() if line.startswith("{")]
        entries = [entry for entry in map(json.loads, lines) if entry["message"] == message]
        assert all(entry["service"] == SERVICE for entry in entries)
        return [entry["data"]["pid"] for entry in entries]

    def registered(self) -> set[int]:
        """Processes of the service that the gateway may ask. A killed one stays for the rest of its life."""
        answer = httpx.get(self._platform.admin + "/services", trust_env=False, timeout=20)
        found = answer.json()["services"][f"{SERVICE}-service"]
        return {int(instance["id"].split("-")[-2]) for instance in found}

    def started(self, count: int) -> list[int]:
        """The processes, when so many have been started and the gateway knows the last of them."""
        pids = eventually(
            lambda: pids if len(pids := self.told("worker started")) == count else None, within=START_S
        )
        eventually(lambda: pids[-1] in self.registered())
        return list(pids)


@pytest.fixture
def workers(distributed: Distributed, tmp_path: Path) -> Iterator[Workers]:
    workers = Workers(distributed, tmp_path)
    workers.parent.start()
    try:
        yield workers
    finally:
        workers.parent.terminate()
        workers.parent.wait()


def _exists(pid: int) -> bool:
    """A zombie counts as gone: who inherits it buries it."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def test_one_that_is_killed_is_there_again_and_all_leave_with_their_parent(workers: Workers) -> None:
    first, victim = workers.started(2)
    assert {first, victim} <= workers.registered()
    os.kill(victim, signal.SIGKILL)
    successor = workers.started(3)[-1]
    assert {first, successor} <= workers.registered()
    assert workers.told("worker ended") == [victim]

    assert workers.parent.process is not None
    workers.parent.terminate()
    assert workers.parent.process.wait(20) == 0
    eventually(lambda: not {first, successor} & workers.registered())
    assert sorted(workers.told("worker ended")) == sorted([victim, first, successor])
    assert not any(_exists(pid) for pid in (first, victim, successor))


def test_workers_of_a_killed_parent_drain_and_leave(workers: Workers) -> None:
    pids = workers.started(2)
    workers.parent.kill()
    eventually(lambda: not any(_exists(pid) for pid in pids), within=20)
    eventually(lambda: not set(pids) & workers.registered())
    assert workers.parent.log_tail().count("the parent is gone; draining") == 2
