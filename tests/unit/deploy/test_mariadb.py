"""The data directory that ``mariadb-install-db`` makes, with programs that fail as it did."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.servers.mariadb import MariaDb
from deploy.servers.server import ServerError

FAILS_ONCE = """#!/bin/sh
echo run >> {folder}/runs
if [ "$(wc -l < {folder}/runs)" -eq 1 ]; then
    echo "installing"
    echo "no space for the first" >&2
    exit 1
fi
"""

FAILS = """#!/bin/sh
echo run >> {folder}/runs
echo "failure $(wc -l < {folder}/runs)" >&2
exit 1
"""


def _install(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    program = folder / "mariadb-install-db"
    program.write_text(script.format(folder=folder))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def test_a_second_try_says_how_the_first_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _install(tmp_path, FAILS_ONCE, monkeypatch)
    server = MariaDb(tmp_path / "mariadb")
    server.directory.mkdir()
    server.prepare()
    said = capsys.readouterr().err
    assert "installing" in said
    assert "no space for the first" in said
    server.prepare()  # what is made is not made again
    assert (tmp_path / "runs").read_text().count("run") == 2


def test_two_failures_are_both_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _install(tmp_path, FAILS, monkeypatch)
    server = MariaDb(tmp_path / "mariadb")
    server.directory.mkdir()
    with pytest.raises(ServerError, match="failure 1") as caught:
        server.prepare()
    assert "failure 2" in str(caught.value)
