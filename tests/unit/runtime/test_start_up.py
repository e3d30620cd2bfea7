"""A platform that starts imports what it needs, and no more."""

from __future__ import annotations

import subprocess
import sys

import pytest

HOW = """
import sys
from pathlib import Path
from yuanlian.kit.observe.logs import configure
from yuanlian.runtime import cli, embedded_command
from yuanlian.runtime.settings import Settings
from yuanlian.runtime.wiring import embedded

platform = embedded(Settings(data_dir=Path(sys.argv[1])), configure("test"))
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The packages that a platform has in memory when it is about to listen."""
    command = [sys.executable, "-c", HOW, str(tmp_path_factory.mktemp("start-up"))]
    return set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())


@pytest.mark.parametrize(
    ("package", "who"),
    [
        ("alembic", "an upgrade"),
        ("openpyxl", "an import of a workbook"),
        ("aiosmtplib", "mail by SMTP"),
        ("prompt_toolkit", "the interactive shell of the CEL package"),
        ("pytest", "tests"),
        ("hypothesis", "tests"),
        ("httpx", "tests"),
        ("fastapi", "the bench"),
    ],
)
def test_what_only_one_thing_needs_is_left_to_it(imported: set[str], package: str, who: str) -> None:
    assert package not in imported, f"{package} is for {who}"


def test_the_platform_itself_is_there(imported: set[str]) -> None:
    assert {"yuanlian", "litestar", "sqlalchemy", "uvloop", "cel"} <= imported
