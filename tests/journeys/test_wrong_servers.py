"""What an operator hears whose settings name a server that cannot be used: which setting, where it came from,
what to do, within seconds, and never a secret.

Distributed by nature: the embedded platform has no servers; its refusals are in ``test_lifecycle``.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.support import servers

from deploy.servers.server import free_port

SECRET = "known-to-tests-only-and-longer-than-32-bytes"
WRONG = "a-wrong-password"
ANALYTICS = ("run", "analytics", "--port", "0", "--admin-port", "0")


@dataclass(frozen=True)
class Case:
    """``url`` makes the wrong value from the right one."""

    name: str
    url: Callable[[str], str]
    words: tuple[str, ...]


def _other_password(url: str) -> str:
    scheme, _, rest = url.partition("://")
    account, _, place = rest.rpartition("@")
    return f"{scheme}://{account.partition(':')[0]}:{WRONG}@{place}"


def _other_port(url: str) -> str:
    head, _, tail = url.rpartition(":")
    return f"{head}:{free_port()}{tail[tail.index('/') :]}"


def _other_path(url: str) -> str:
    return url.rpartition("/")[0] + "/nobody_made_this"


def _user_without(*rules: str) -> Callable[[str], str]:
    def changed(url: str) -> str:
        whole = ("reset", "on", f">{WRONG}", "+@all", "~*", "&*")
        assert servers.redis().ask("ACL", "SETUSER", "half", *whole, *rules) == b"+OK\r\n"
        return f"redis://half:{WRONG}@{url.rpartition('@')[2]}"

    return changed


CASES = [
    Case("DATABASE_URL", _other_password, ("password",)),
    Case("DATABASE_URL", _other_port, ("nothing answers",)),
    Case("DATABASE_URL", _other_path, ("nobody_made_this",)),
    Case("BUS_URL", _other_password, ("refuses the user or the password",)),
    Case("BUS_URL", _other_port, ("cannot be used", "ConnectionRefused")),
    Case("BUS_URL", _other_path, ("no such virtual host",)),
    Case("CACHE_URL", _other_password, ("another user or password",)),
    Case("REGISTRY_URL", _other_port, ("nothing answers",)),
    Case("CACHE_URL", lambda url: url + "?cluster=true", ("no cluster answers",)),
    Case("CACHE_URL", _user_without("-subscribe", "-script|load"), ("it lacks", "+script|load +subscribe")),
    Case("REGISTRY_URL", _user_without("resetchannels"), ("it lacks", "&yuanlian &services")),
]


@pytest.fixture(scope="module")
def right() -> dict[str, str]:
    redis = servers.redis().url
    return {
        "YUANLIAN_DATABASE_URL": servers.mariadb().url,
        "YUANLIAN_BUS_URL": servers.rabbitmq().url,
        "YUANLIAN_CACHE_URL": redis,
        "YUANLIAN_REGISTRY_URL": redis,
        "YUANLIAN_JWT_SECRET": SECRET,
    }


def run(folder: Path, settings: dict[str, str], *command: str) -> tuple[int, str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("YUANLIAN_")}
    done = subprocess.run(
        [sys.executable, "-m", "yuanlian.runtime.cli", *command],
        env={**environment, **settings, "YUANLIAN_DATA_DIR": str(folder / "data")},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.name} {' '.join(case.words)}")
def test_check_says_which_server_and_what_to_do(tmp_path: Path, right: dict[str, str], case: Case) -> None:
    name = f"YUANLIAN_{case.name}"
    settings = {**right, name: case.url(right[name])}
    code, said = run(tmp_path, settings, "check")
    assert code == 1
    joined = " ".join(said.split())
    failed = joined[joined.index("FAIL") :]
    assert case.name.lower() in failed.lower()
    for word in case.words:
        assert word in failed, failed
    _has_no_secret(said, settings)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.name} {' '.join(case.words)}")
def test_a_start_says_the_same_and_leaves_nothing_running(
    tmp_path: Path, right: dict[str, str], case: Case
) -> None:
    if "nothing answers" in case.words and case.name == "REGISTRY_URL":
        pytest.skip("a Redis that is away is no reason not to start; see the next test")
    name = f"YUANLIAN_{case.name}"
    settings = {**right, name: case.url(right[name])}
    code, said = run(tmp_path, settings, *ANALYTICS)
    assert code == 1
    assert f"{name} (from: environment)" in said
    for word in case.words:
        assert word in said
    _has_no_secret(said, settings)


def test_a_service_starts_without_its_redis_and_says_so(tmp_path: Path, right: dict[str, str]) -> None:
    settings = {**right, "YUANLIAN_REGISTRY_URL": _other_port(right["YUANLIAN_REGISTRY_URL"])}
    environment = {k: v for k, v in os.environ.items() if not k.startswith("YUANLIAN_")}
    output = tmp_path / "output"
    with output.open("w") as sink:
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "yuanlian.runtime.cli",
                "run",
                "analytics",
                "--port",
                "0",
                "--admin-port",
                "0",
            ],
            env={**environment, **settings, "YUANLIAN_DATA_DIR": str(tmp_path / "data")},
            stdout=sink,
            stderr=subprocess.STDOUT,
        )
    try:
        deadline = time.monotonic() + 30
        while '"platform ready"' not in output.read_text():
            assert process.poll() is None, output.read_text()
            assert time.monotonic() < deadline, output.read_text()
            time.sleep(0.05)
        assert "a server is away; starting without it" in output.read_text()
        assert "YUANLIAN_REGISTRY_URL (from: environment)" in output.read_text()
    finally:
        process.terminate()
        process.wait(timeout=20)
    _has_no_secret(output.read_text(), settings)


def test_what_is_right_is_said_to_be(tmp_path: Path, right: dict[str, str]) -> None:
    code, said = run(tmp_path, right, "check")
    assert code == 0, said
    for part in ("MariaDB", "RabbitMQ at", "Redis 7"):
        assert part in said
    _has_no_secret(said, right)


def _has_no_secret(said: str, settings: dict[str, str]) -> None:
    assert SECRET not in said
    assert WRONG not in said
    for url in settings.values():
        if "@" in url:
            assert url.partition("://")[2].partition("@")[0].rpartition(":")[2] not in said
