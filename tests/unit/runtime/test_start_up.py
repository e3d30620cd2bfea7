"""A platform that starts imports what it needs, and no more."""

from __future__ import annotations

import platform
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


HASHING = """
import threading
from yuanlian.runtime import memory
from yuanlian.services.auth.passwords import hash_password

def resident():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * 4096

memory.start_up()
hash_password("warm")
before = resident()
threads = [threading.Thread(target=lambda: [hash_password("x") for _ in range(3)]) for _ in range(3)]
for thread in threads: thread.start()
for thread in threads: thread.join()
memory.settle()
print(resident() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="about the C library of Linux")
def test_the_memory_of_a_password_check_is_given_back() -> None:
    """glibc would keep 19 MiB for each of the three threads."""
    ended = subprocess.run([sys.executable, "-c", HASHING], capture_output=True, text=True, check=True)
    assert int(ended.stdout) < 10_000_000
