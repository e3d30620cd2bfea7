"""``yuanlian …`` within the process of the tests."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from yuanlian.runtime.cli import app

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """``yuanlian …`` in a directory of its own, without settings from around it."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("YUANLIAN_")]:
        monkeypatch.delenv(name)

    def invoke(*arguments: str, stdin: str = "", **settings: str) -> Result:
        environment = {f"YUANLIAN_{name.upper()}": value for name, value in settings.items()}
        return CliRunner().invoke(app, list(arguments), input=stdin, env=environment)

    return invoke
