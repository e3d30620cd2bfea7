"""What a run of tests has started does not outlive it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support import servers

from deploy.servers.redis import Redis

_REPOSITORY = Path(__file__).parents[3]
_TEST = """
import atexit
import pathlib
import time

from tests.support import servers


def test_it_uses_a_server():
    pathlib.Path({note!r}).write_text(str(servers.redis().process.pid))
    atexit.register(time.sleep, 60)
"""


def test_a_worker_that_takes_its_time_to_end_has_stopped_its_servers(tmp_path: Path) -> None:
    """xdist kills one that has not ended ten seconds after its last test: a RabbitMQ and a MariaDB that were
    slow to stop cost it those, and the others were never stopped."""
    servers.need(Redis)
    note, test = tmp_path / "pid", tmp_path / "test_one.py"
    test.write_text(_TEST.format(note=str(note)))
    options = ["-q", "-p", "tests.conftest", "-p", "no:cacheprovider", "-c", "pyproject.toml", "-n", "1"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(test)],
        cwd=_REPOSITORY,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "1 passed" in done.stdout, done.stdout + done.stderr
    assert not Path(f"/proc/{int(note.read_text())}").exists()
