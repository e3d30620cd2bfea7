"""What an operator hears whose settings name a server that cannot be used: which setting, where it came from,
what to do, within seconds, and never a secret.

Distributed by nature: the embedded platform has no servers; its refusals are in ``test_lifecycle``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from tests.support import accounts, servers
from tests.support.silence import silent

from deploy.servers.server import free_port
from yuanlian.kit.database.mysql import MysqlDatabase
from yuanlian.runtime.schema import upgrade

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


def _new_database(name: str, *, options: str = "CHARACTER SET utf8mb4") -> str:
    accounts.as_root(
        servers.mariadb(), f"DROP DATABASE IF EXISTS {name}", f"CREATE DATABASE {name} {options}"
    )
    return servers.mariadb().url_of(name)


def _who_may_only_read(_: str) -> str:
    name = "yuanlian_only_read"
    MysqlDatabase(_new_database(name)).migrate(upgrade)
    return accounts.database_user(servers.mariadb(), "reader", name, f"SELECT ON {name}.*")


def _who_may_not_make_tables(_: str) -> str:
    name = "yuanlian_no_tables"
    _new_database(name)
    grant = f"SELECT, INSERT, UPDATE, DELETE ON {name}.*"
    return accounts.database_user(servers.mariadb(), "writer", name, grant)


def _broker_user(configure: str, write: str, read: str) -> Callable[[str], str]:
    def changed(_: str) -> str:
        return accounts.broker_user(servers.rabbitmq(), "half", "wrong", configure, write, read)

    return changed


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
    Case(
        "DATABASE_URL",
        _who_may_only_read,
        ("lacks ALTER, CREATE, DELETE, DROP, INDEX, INSERT, UPDATE", "GRANT ALL"),
    ),
    Case("DATABASE_URL", _who_may_not_make_tables, ("lacks ALTER, CREATE, DROP, INDEX", "GRANT ALL")),
    Case("BUS_URL", _other_password, ("refuses the user or the password",)),
    Case("BUS_URL", _other_port, ("cannot be used", "ConnectionRefused")),
    Case("BUS_URL", _other_path, ("no such virtual host",)),
    Case("BUS_URL", _broker_user("", ".*", ".*"), ("lacks configure", "exchange kindergarten.direct")),
    Case("BUS_URL", _broker_user(".*", "kinder.*", ".*"), ("lacks write", "queue attendance.queue")),
    Case("BUS_URL", _broker_user(".*", ".*", "kinder.*"), ("lacks read", "queue attendance.queue")),
    Case("CACHE_URL", _other_password, ("another user or password",)),
    Case("REGISTRY_URL", _other_port, ("nothing answers",)),
    Case("CACHE_URL", lambda url: url + "?cluster=true", ("no cluster answers",)),
    Case("CACHE_URL", _user_without("-subscribe", "-evalsha"), ("it lacks", "+evalsha +subscribe")),
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
    assert f"{name} (from: environment)" in failed
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


SERVERS = ("DATABASE_URL", "BUS_URL", "CACHE_URL", "REGISTRY_URL")


@pytest.mark.parametrize("command", [("check",), ANALYTICS], ids=["check", "start"])
def test_of_many_that_are_silent_each_is_named(tmp_path: Path, command: tuple[str, ...]) -> None:
    """Nothing was said of those behind the first, or one after the other; now all have the same seconds."""
    with silent(4) as (database, bus, cache, registry):
        settings = {
            "YUANLIAN_DATABASE_URL": f"mysql://yuanlian:{WRONG}@127.0.0.1:{database}/yuanlian",
            "YUANLIAN_BUS_URL": f"amqp://yuanlian:{WRONG}@127.0.0.1:{bus}/",
            "YUANLIAN_CACHE_URL": f"redis://:{WRONG}@127.0.0.1:{cache}/0",
            "YUANLIAN_REGISTRY_URL": f"redis://:{WRONG}@127.0.0.1:{registry}/0",
            "YUANLIAN_JWT_SECRET": SECRET,
        }
        code, said = run(tmp_path, settings, *command)
    assert code == 1
    for name in SERVERS:
        assert f"YUANLIAN_{name} (from: environment)" in said, said
    _has_no_secret(said, settings)


def test_a_service_starts_without_its_redis_and_says_so(tmp_path: Path, right: dict[str, str]) -> None:
    settings = {**right, "YUANLIAN_REGISTRY_URL": _other_port(right["YUANLIAN_REGISTRY_URL"])}
    with _ready(tmp_path, settings, "analytics") as output:
        assert "a server is away; starting without it" in output.read_text()
        assert "YUANLIAN_REGISTRY_URL (from: environment)" in output.read_text()
        assert _speakers(output) == {"analytics"}
    _has_no_secret(output.read_text(), settings)


def test_a_service_shows_what_it_knows_of_its_queues(tmp_path: Path, right: dict[str, str]) -> None:
    with _ready(tmp_path, right, "analytics") as output:
        (ready,) = (json.loads(line) for line in output.read_text().splitlines() if ' ready"' in line)
        shown = httpx.get(f"{ready['data']['admin']}/metrics", trust_env=False, timeout=20).text.splitlines()
    for line in (
        'messages_done_total{queue="analytics.queue"} 0.0',
        'messages_dead_total{queue="outbox"} 0.0',
        'queue_stalled_seconds{queue="analytics.queue"} 0.0',
        "outbox_oldest_seconds 0.0",
    ):
        assert line in shown


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_gateway_starts_while_the_servers_of_the_services_are_away(
    tmp_path: Path, right: dict[str, str], workers: str
) -> None:
    """It uses neither, and refused to come back during their outage."""
    away = {name: _other_port(right[name]) for name in ("YUANLIAN_DATABASE_URL", "YUANLIAN_BUS_URL")}
    settings = {**right, **away, "YUANLIAN_WORKERS": workers}
    with _ready(tmp_path, settings, "gateway") as output:
        assert _speakers(output) == {"gateway"}
    _has_no_secret(output.read_text(), settings)


def test_a_gateway_is_told_of_its_own_server(tmp_path: Path, right: dict[str, str]) -> None:
    settings = {**right, "YUANLIAN_CACHE_URL": _other_password(right["YUANLIAN_CACHE_URL"])}
    code, said = run(tmp_path, settings, "run", "gateway", "--port", "0", "--admin-port", "0")
    assert code == 1
    assert "YUANLIAN_CACHE_URL (from: environment)" in said
    _has_no_secret(said, settings)


def test_a_check_leaves_nothing_behind(tmp_path: Path, right: dict[str, str]) -> None:
    """It gave an empty database our collation, and declared all queues."""
    broker, name = servers.rabbitmq(), "yuanlian_untouched"
    url = _new_database(name, options="CHARACTER SET latin1 COLLATE latin1_german1_ci")
    settings = {
        **right,
        "YUANLIAN_DATABASE_URL": url,
        "YUANLIAN_BUS_URL": accounts.broker_user(broker, "whole", "untouched", ".*", ".*", ".*"),
    }
    before = accounts.in_broker(broker, "untouched")
    code, said = run(tmp_path, settings, "check")
    assert code == 0, said
    assert "the first start makes its tables" in said
    collation = f"SELECT default_collation_name FROM information_schema.schemata WHERE schema_name = '{name}'"
    assert accounts.as_root(servers.mariadb(), collation).strip() == "latin1_german1_ci"
    assert accounts.as_root(servers.mariadb(), f"SHOW TABLES FROM {name}") == ""
    assert accounts.in_broker(broker, "untouched") == before


@contextmanager
def _ready(folder: Path, settings: dict[str, str], part: str) -> Iterator[Path]:
    """``yuanlian run PART``, while it serves; where its output goes."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("YUANLIAN_")}
    output = folder / "output"
    command = [sys.executable, "-m", "yuanlian.runtime.cli", "run", part, "--port", "0", "--admin-port", "0"]
    with output.open("w") as sink:
        process = subprocess.Popen(
            command,
            env={**environment, **settings, "YUANLIAN_DATA_DIR": str(folder / "data")},
            stdout=sink,
            stderr=subprocess.STDOUT,
        )
    try:
        deadline = time.monotonic() + 60
        while ' ready"' not in output.read_text():
            assert process.poll() is None, output.read_text()
            assert time.monotonic() < deadline, output.read_text()
            time.sleep(0.05)
        yield output
    finally:
        process.terminate()
        process.wait(timeout=20)


def _speakers(output: Path) -> set[str]:
    lines = [line for line in output.read_text().splitlines() if line.startswith("{")]
    return {json.loads(line)["service"] for line in lines}


def test_what_is_right_is_said_to_be(tmp_path: Path, right: dict[str, str]) -> None:
    code, said = run(tmp_path, right, "check")
    assert code == 0, said
    for part in ("MariaDB", "RabbitMQ 3", "Redis 7"):
        assert part in said
    _has_no_secret(said, right)


def _has_no_secret(said: str, settings: dict[str, str]) -> None:
    assert SECRET not in said
    assert WRONG not in said
    assert accounts.PASSWORD not in said
    for url in settings.values():
        if "@" in url:
            assert url.partition("://")[2].partition("@")[0].rpartition(":")[2] not in said
