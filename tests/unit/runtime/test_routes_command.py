"""``yuanlian routes check`` and ``match``, as an operator types them."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from yuanlian.runtime.cli import app

TABLE = """routes:
  - {path: /api/tenant/**, service: tenant-service, methods: [GET, POST]}
  - {path: /api/tenant/classes, service: tenant-service, methods: [GET]}
  - {path: /api/meals/**, service: meal-service, methods: [GET]}
"""


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings but those of the test."""
    monkeypatch.chdir(tmp_path)
    for name in ("YUANLIAN_ROUTES", "YUANLIAN_UPSTREAMS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "table.yaml"
    path.write_text(TABLE, encoding="utf-8")
    return path


def _run(*arguments: str | Path, **environment: str) -> Result:
    return CliRunner().invoke(app, ["routes", *map(str, arguments)], env=environment)


def test_the_packaged_table_passes() -> None:
    result = _run("check")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.endswith("no errors, no warnings\n")


def test_warnings_and_notes_are_said_and_pass(file: Path) -> None:
    result = _run("check", file)
    assert result.exit_code == 0
    assert f"{file}:3: note: answers 405 to POST, which" in result.stdout
    assert f"{file}:4: warning: no service is called `meal-service`" in result.stdout
    assert result.stdout.endswith("no errors, 1 warning\n")


def test_a_service_that_a_setting_names_is_known(file: Path) -> None:
    for value in ("meal-service=http://127.0.0.1:9101", "*=http://127.0.0.1:9101"):
        assert "warning:" not in _run("check", file, YUANLIAN_UPSTREAMS=value).stdout


def test_an_error_fails_with_its_line(file: Path) -> None:
    file.write_text(TABLE + "  - {path: /internal/**, service: tenant-service, methods: [GET]}\n", "utf-8")
    result = _run("check", file)
    assert result.exit_code == 1
    assert f"{file}:5: error: unreachable: " in result.stdout
    assert "1 error, 1 warning" in result.stdout


def test_the_table_in_use_is_checked_when_none_is_named(file: Path) -> None:
    assert f"{file}:4: warning" in _run("check", YUANLIAN_ROUTES=str(file)).stdout


@pytest.mark.parametrize("command", [["check"], ["match", "GET", "/a", "--file"]])
def test_a_file_that_cannot_be_read_is_refused(command: list[str], tmp_path: Path) -> None:
    result = _run(*command, tmp_path / "none.yaml")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "none.yaml: No such file" in result.stderr


def test_who_wins_and_who_loses(file: Path) -> None:
    result = _run("match", "get", "/api/tenant/classes", "--file", file)
    assert result.exit_code == 0
    verdict, _, _, winner, loser, others = result.stdout.splitlines()
    assert verdict == "GET /api/tenant/classes: 200, goes to tenant-service"
    assert winner.split()[:4] == ["wins", "3", "/api/tenant/classes", "GET"]
    assert loser.split()[:3] == ["loses", "2", "/api/tenant/**"]
    assert loser.rstrip().endswith("wider: `**` where `/api/tenant/classes` says `classes`")
    assert others == f"1 other route of {file} does not fit"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("POST", "/api/tenant/classes", 405), ("GET", "/x", 404), ("GET", "/a/../b", 400)],
)
def test_a_request_that_nobody_takes_fails(file: Path, method: str, path: str, status: int) -> None:
    result = _run("match", method, path, "--file", file)
    assert result.exit_code == 1
    assert f"{method} {path}: {status}, " in result.stdout


def test_a_bad_table_answers_nothing(file: Path) -> None:
    file.write_text(TABLE.replace("POST", "SEND"), "utf-8")
    result = _run("match", "GET", "/a", "--file", file)
    assert (result.exit_code, result.stdout) == (1, "")
    assert f"{file}, line 2: " in result.stderr
