"""Logs of parts stay within bounds while the parts write them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from deploy.distributed import Distributed
from deploy.logs import KEPT, cut, set_aside
from deploy.servers.server import ServerError

LIMIT = 2000
LINES = 40

# Writes LINES numbered lines of 100 bytes for each line that it reads.
WRITER = f"""
import sys
number = 0
for _ in sys.stdin:
    for _ in range({LINES}):
        sys.stdout.write(f"{{number:099}}\\n")
        number += 1
    sys.stdout.flush()
    sys.stderr.write("done\\n")
    sys.stderr.flush()
"""


def test_a_part_goes_on_writing_to_a_log_that_was_cut(tmp_path: Path) -> None:
    log = tmp_path / "auth.log"
    with log.open("ab") as file:
        part = subprocess.Popen(
            [sys.executable, "-c", WRITER], stdin=subprocess.PIPE, stdout=file, stderr=subprocess.PIPE
        )
    with part:
        assert part.stdin
        assert part.stderr
        for _ in range(6):
            part.stdin.write(b"more\n")
            part.stdin.flush()
            part.stderr.readline()
            assert cut(log, LIMIT)
            assert log.stat().st_size == 0
            assert not cut(log, LIMIT)
        part.stdin.write(b"more\n")
        part.stdin.close()
        part.stderr.read()
    assert part.returncode == 0
    files = [tmp_path / f"auth.log.{number}" for number in range(KEPT, 0, -1)]
    numbers = [int(line) for file in [*files, log] for line in file.read_text().splitlines()]
    assert numbers == list(range(3 * LINES, 7 * LINES)), "the youngest, each once and in order"
    assert sorted(tmp_path.iterdir()) == sorted([*files, log])


def test_a_log_that_cannot_be_copied_stays_as_it_is(tmp_path: Path) -> None:
    log = tmp_path / "auth.log"
    log.write_bytes(b"x" * (LIMIT + 1))
    (tmp_path / "auth.log.0").mkdir()  # where the copy would be
    with pytest.raises(OSError, match=r"auth\.log\.0"):
        cut(log, LIMIT)
    assert log.stat().st_size == LIMIT + 1


def test_what_an_earlier_run_wrote_is_set_aside(tmp_path: Path) -> None:
    log = tmp_path / "auth.log"
    set_aside(log)
    for run in range(5):
        log.write_text(f"run {run}")
        set_aside(log)
    assert not log.exists()
    assert [(tmp_path / f"auth.log.{number}").read_text() for number in (1, 2, 3)] == [
        "run 4",
        "run 3",
        "run 2",
    ]
    assert len(list(tmp_path.iterdir())) == KEPT


def test_a_platform_begins_new_logs_and_cuts_long_ones(tmp_path: Path) -> None:
    log = tmp_path / "tenant.log"
    log.write_text("of yesterday")
    platform = Distributed(tmp_path, {"YUANLIAN_DATABASE_URL": "nonsense"})
    with pytest.raises(ServerError, match="tenant did not start"):
        platform.start()
    platform.parts["tenant"].wait()
    assert (tmp_path / "tenant.log.1").read_text() == "of yesterday"
    said = log.read_text()
    assert said
    assert platform.cut_logs(limit=len(said.encode())) == []
    assert platform.cut_logs(limit=1) == []
    assert (tmp_path / "tenant.log.1").read_text() == said
    assert log.read_text() == ""
    (tmp_path / "tenant.log.0").mkdir()
    log.write_text(said)
    assert len(platform.cut_logs(limit=1)) == 1, "it is said, and the platform goes on"
