"""Starting, refusing to start, and stopping without dropping anything.

Embedded by nature: what ``up`` refuses (the distributed refusals are in ``test_wrong_servers``), its
terminal, and its threads, which ``run`` ends by the same code.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import termios
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import httpx
import pytest
from tests.support.platform import People, Person, Platform, eventually, running

from deploy.distributed import Distributed, Part


def _up(*options: str, cwd: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """A platform that is expected to refuse."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("YUANLIAN_")}
    environment |= {f"YUANLIAN_{name.upper()}": value for name, value in settings.items()}
    return subprocess.run(
        [sys.executable, "-m", "yuanlian.runtime.cli", "up", *options],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_a_second_platform_on_one_data_directory_says_who_holds_it(tmp_path: Path) -> None:
    with running(tmp_path / "data", demo=False) as first:
        assert first.process is not None
        second = _up("--data-dir", str(tmp_path / "data"), "--port", "0", cwd=tmp_path)
        assert second.returncode == 1
        assert f"held by process {first.process.pid}" in second.stderr
        assert "Traceback" not in second.stderr
        assert httpx.get(first.public + "/readyz", trust_env=False, timeout=20).status_code == 200


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for option in ("--port", "--admin-port"):
            other = "--admin-port" if option == "--port" else "--port"
            refused = _up(option, str(port), other, "0", "--data-dir", str(tmp_path / "data"), cwd=tmp_path)
            assert refused.returncode == 1
            assert f"127.0.0.1:{port}" in refused.stderr
            assert "Traceback" not in refused.stderr


def test_production_refuses_default_secrets_and_demo_data(tmp_path: Path) -> None:
    bare = _up("--data-dir", "data", cwd=tmp_path, env="production")
    assert bare.returncode == 1
    assert "JWT_SECRET" in bare.stderr
    demo = _up("--demo", "--data-dir", "data", cwd=tmp_path, env="production", jwt_secret="s" * 32)
    assert demo.returncode == 1
    assert "--demo" in demo.stderr
    assert not (tmp_path / "data").exists()


def test_a_bad_setting_is_named_without_its_value(tmp_path: Path) -> None:
    for settings, name in (
        ({"jwt_secret": "short-secret"}, "YUANLIAN_JWT_SECRET"),
        ({"port": "eighty"}, "YUANLIAN_PORT"),
        ({"bus_url": "amqp://guest:geheim@127.0.0.1"}, "bus_url"),
        ({"database_url": "postgresql://x"}, "database_url"),
    ):
        refused = _up("--data-dir", str(tmp_path / "data"), cwd=tmp_path, **settings)
        assert refused.returncode == 1
        assert name in refused.stderr
        assert "Traceback" not in refused.stderr
        assert "short-secret" not in refused.stderr
        assert "geheim" not in refused.stderr


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("This was never a database. " * 10)
    settings = {"data_dir": str(tmp_path / "data"), "database_url": f"sqlite:///{tmp_path}/text.db"}
    refused = _up("--port", "0", "--admin-port", "0", cwd=tmp_path, **settings)
    assert refused.returncode == 1
    assert "text.db: file is not a database" in refused.stderr
    assert "Traceback" not in refused.stderr


class Running(Protocol):
    """A platform of either shape, as these journeys use it."""

    @property
    def public(self) -> str: ...

    @property
    def admin(self) -> str: ...

    def start(self) -> object: ...


@pytest.fixture(params=["embedded", "distributed"])
def platform(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Running]:
    if request.param == "distributed":
        yield request.getfixturevalue("distributed")
    else:
        with running(tmp_path / "data") as embedded:
            yield embedded


def _stopped(platform: Running) -> set[int | None]:
    """Ctrl-C, or SIGTERM of every part, the gateway first; the exit codes."""
    if isinstance(platform, Distributed):
        platform.stop()
        return {part.process.returncode for part in platform.parts.values() if part.process is not None}
    assert isinstance(platform, Platform)
    return {platform.stop(within=5)}


def _logs(platform: Running) -> list[str]:
    """What the parts said on stdout; that of the distributed ones has their greetings in it, for people."""
    if isinstance(platform, Platform):
        return platform.output
    assert isinstance(platform, Distributed)
    lines = [line for part in platform.parts.values() for line in part.log.read_text("utf-8").splitlines()]
    return [line for line in lines if line and not line.startswith(("园联", "管理端", "/services"))]


def test_a_stop_finishes_what_is_under_way_and_keeps_the_data(platform: Running) -> None:
    people = People(platform.public)
    teacher = people("laoshi")

    with ThreadPoolExecutor(16) as pool:
        taps = {f"stop-{number}": pool.submit(_tap, teacher, number) for number in range(200)}
        taps["stop-20"].result()
        assert _stopped(platform) == {0}
        results = {event_id: tap.result() for event_id, tap in taps.items()}
    people.close()
    answered = {event_id for event_id, status in results.items() if status == 201}
    assert answered
    # A request that was under way is answered; one that came too late is not, and is no 5xx.
    assert set(results.values()) <= {201, 0}

    platform.start()
    again = People(platform.public)
    stored = _events(again)
    assert answered <= stored
    again.close()


def test_ctrl_c_does_not_wait_for_a_mail_server_that_never_answers(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(20)
        url = f"smtp://127.0.0.1:{silent.getsockname()[1]}?from=kindergarten@example.com"
        with running(tmp_path / "data", smtp_url=url) as platform:
            people = People(platform.public)
            teacher = people("laoshi")
            assert teacher.check_in("student_sun_001").status == 201
            connection, _ = silent.accept()  # a letter is under way, and stays so
            with connection, ThreadPoolExecutor(8) as pool:
                taps = [pool.submit(_tap, teacher, number) for number in range(100)]
                taps[10].result()
                assert platform.stop(within=5) == 0
                results = {tap.result() for tap in taps}
            people.close()
            assert 201 in results
            assert results <= {201, 0}
            [cut] = [e for e in platform.logs() if "cut while at work" in e["message"]]
            assert cut["data"]["part"] == "bus"


def test_a_part_does_not_wait_for_a_mail_server_that_never_answers(distributed: Distributed) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(20)
        url = f"smtp://127.0.0.1:{silent.getsockname()[1]}?from=kindergarten@example.com"
        part = distributed.parts["notification"]
        _end(part)
        part.environment["YUANLIAN_SMTP_URL"] = url
        part.start()
        people = People(distributed.public)
        assert people("laoshi").check_in("student_sun_001").status == 201
        connection, _ = silent.accept()  # a letter is under way, and stays so
        with connection:
            assert _end(part) == 0
        assert "cut while at work" in part.log_tail()
        del part.environment["YUANLIAN_SMTP_URL"]
        part.start()
        eventually(lambda: "notification-service" in _registered(distributed))
        people.close()


def test_a_part_that_leaves_is_gone_from_the_registry_and_the_others_go_on(distributed: Distributed) -> None:
    people = People(distributed.public)
    teacher, part = people("laoshi"), distributed.parts["analytics"]
    daily = "/api/analytics/attendance/daily"
    [before] = _registered(distributed)["analytics-service"]
    assert _end(part) == 0
    eventually(lambda: "analytics-service" not in _registered(distributed))
    assert people("yuanzhang").get(daily).status == 503
    assert teacher.check_in("student_sun_002", eventId="while-away").status == 201
    part.start()
    [after] = eventually(lambda: _registered(distributed).get("analytics-service"))
    assert after["id"] != before["id"]
    eventually(lambda: people("yuanzhang").get(daily).status != 503)
    assert "while-away" in _events(people)
    people.close()


def _end(part: Part) -> int:
    """SIGTERM; the exit code."""
    assert part.process is not None
    part.terminate()
    return part.process.wait(timeout=10)


def _registered(platform: Distributed) -> dict[str, list[dict[str, Any]]]:
    listed = httpx.get(platform.admin + "/services", trust_env=False, timeout=20).json()["services"]
    return {name: instances for name, instances in listed.items() if instances}


BUSY = """
import asyncio, os, signal, sys, time
from pathlib import Path
from yuanlian.kit.observe.logs import configure
from yuanlian.runtime.launcher import run
from yuanlian.runtime.settings import Settings

async def keep_a_thread_busy(_):
    asyncio.get_running_loop().run_in_executor(None, time.sleep, 60)

settings = Settings(data_dir=Path(sys.argv[1]), port=0, admin_port=0, drain_s=0.5)
interrupt = lambda _: os.kill(os.getpid(), signal.SIGINT)
run(settings, configure("test"), load=keep_a_thread_busy, ready=interrupt)
"""


def test_ctrl_c_does_not_wait_for_a_thread_that_still_computes(tmp_path: Path) -> None:
    """Nobody can end a thread from outside: a large spreadsheet, say, that is being parsed."""
    ended = subprocess.run(
        [sys.executable, "-c", BUSY, str(tmp_path / "data")],
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    )
    assert [json.loads(line)["message"] for line in ended.stdout.splitlines()] == [
        "platform ready",
        "stopping",
        "stopped",
        "stopped; threads still at work were left behind",
    ]


def test_closing_the_terminal_stops_the_platform_that_runs_in_it(tmp_path: Path) -> None:
    ours, theirs = os.openpty()
    command = [sys.executable, "-m", "yuanlian.runtime.cli", "up", "--port", "0", "--admin-port", "0"]
    process = subprocess.Popen(
        [*command, "--data-dir", str(tmp_path / "data")],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd=tmp_path,
        preexec_fn=_own_the_terminal,
    )
    os.close(theirs)
    seen = b""
    while b"Ctrl-C" not in seen:
        seen += os.read(ours, 4096)
    process.send_signal(signal.SIGHUP)  # with the terminal there, it is about the routes
    while b"routes replaced" not in seen:
        seen += os.read(ours, 4096)
    os.close(ours)
    assert process.wait(timeout=10) == 0


def _own_the_terminal() -> None:
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def _tap(teacher: Person, number: int) -> int:
    """The status of one check-in; 0 without an answer."""
    try:
        return teacher.check_in(f"student_sun_{number % 25 + 1:03d}", eventId=f"stop-{number}").status
    except httpx.TransportError:
        return 0


def _events(people: People) -> set[str]:
    found: set[str] = set()
    cursor: Any = None
    while True:
        path = "/api/tenant/attendance/events?limit=200" + (f"&cursor={cursor}" if cursor else "")
        page = people("yuanzhang").get(path).data
        found |= {event["eventId"] for event in page["items"]}
        cursor = page["nextCursor"]
        if cursor is None:
            return found


def test_probes_say_no_more_than_they_must_and_admin_says_all(platform: Running) -> None:
    for path in ("/healthz", "/readyz"):
        assert httpx.get(platform.public + path, trust_env=False, timeout=20).json() == {"status": "ok"}
    health = httpx.get(platform.admin + "/health", trust_env=False, timeout=20).json()
    assert health["status"] == "healthy"
    assert all({"status", "duration", "timestamp"} <= set(check) for check in health["checks"].values())
    metrics = httpx.get(platform.admin + "/metrics", trust_env=False, timeout=20).text
    for name in ("http_requests_total", "http_request_duration_seconds", "active_connections"):
        assert name in metrics
    assert httpx.get(platform.public + "/metrics", trust_env=False, timeout=20).status_code == 404


def test_every_line_on_stdout_is_a_log_entry(platform: Running) -> None:
    before = set(_logs(platform))
    people = People(platform.public)
    people("laoshi").check_in("student_sun_001")
    people.close()
    _stopped(platform)
    said = [line for line in _logs(platform) if line not in before]
    entries = [json.loads(line) for line in said]
    assert all({"timestamp", "level", "service", "message"} <= set(entry) for entry in entries)
    accesses = [e for e in entries if e.get("data", {}).get("route") == "/api/tenant/**"]
    # One of each process that it went through, under one id.
    assert len(accesses) == (2 if isinstance(platform, Distributed) else 1)
    assert {access["tenantId"] for access in accesses} == {"tenant_sunshine"}
    [request_id] = {access["requestId"] for access in accesses}
    assert request_id
    everything = "".join(said)
    for secret in ("Demo@2026", "eyJ"):
        assert secret not in everything
