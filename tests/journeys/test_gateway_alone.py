"""Gateway workers in front of services in another process, and of services that are each a process of
their own behind a registry: what people see is one platform.

What becomes of the workers themselves has one shape by nature: no service takes part in it.
"""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.support.distributed import found_by
from tests.support.platform import JWT_SECRET, GatewayAlone, People, Platform, Services, eventually, started

from deploy.distributed import Distributed
from yuanlian.gateway.limits import Limits
from yuanlian.gateway.routes import DEFAULT_ROUTES

SLOW_ROUTE = "\n  - {path: /slow, service: slow, methods: [GET], auth: false, timeoutMs: 20000}\n"


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    with started(Services(tmp_path_factory.mktemp("services") / "data")) as services:
        yield services


@dataclass(frozen=True)
class Behind:
    """What a gateway is told of the services, and where two of them are."""

    told: str | dict[str, str]
    auth: str
    tenant: str


@pytest.fixture(scope="module", params=["in one process", "one process each"])
def behind(request: pytest.FixtureRequest) -> Behind:
    if request.param == "in one process":
        services: Services = request.getfixturevalue("services")
        return Behind(services.public, services.public, services.public)
    platform: Distributed = request.getfixturevalue("distributed")
    auth, tenant = (f"http://127.0.0.1:{platform.ports[name][0]}" for name in ("auth", "tenant"))
    return Behind(found_by(platform), auth, tenant)


@pytest.fixture(scope="module")
def gateway(behind: Behind, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayAlone]:
    with started(GatewayAlone(tmp_path_factory.mktemp("gateway"), behind.told)) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def people(gateway: GatewayAlone) -> Iterator[People]:
    people = People(gateway.public)
    yield people
    people.close()


def _ask(base: str, path: str, **options: Any) -> httpx.Response:
    return httpx.get(base + path, trust_env=False, timeout=20, **options)


def _health(gateway: Platform) -> dict[str, Any]:
    health: dict[str, Any] = _ask(gateway.admin, "/health").json()
    return health


def _counted(gateway: Platform, name: str = "http_requests_total") -> float:
    text = _ask(gateway.admin, "/metrics").text
    return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(name + "{"))


def _is_gone(pid: int) -> bool:
    """Dead and buried, or waiting to be."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return True
    return stat.rpartition(")")[2].split()[0] == "Z"


def test_a_check_in_reaches_guardian_and_board_through_the_gateway(people: People) -> None:
    teacher, guardian = people("laoshi"), people("jiazhang", "tenant_sunshine")
    with teacher.socket() as board:
        answer = teacher.check_in("student_sun_001")
        assert answer.status == 201
        update = board.next("attendance_update")
        assert update["data"]["studentId"] == "student_sun_001"
    eventually(guardian.inbox)
    assert people("yuanzhang2").get("/api/tenant/students/student_sun_001").status == 404


def test_the_documentation_comes_from_the_services(gateway: GatewayAlone) -> None:
    """Of them all, each once: a distributed gateway once showed that of the auth service alone."""
    document = _ask(gateway.public, "/api/openapi.json").json()
    assert {"/api/auth/login", "/api/tenant/attendance/events"} <= set(document["paths"])
    tags = [tag["name"] for tag in document["tags"]]
    assert sorted(tags) == ["analytics-service", "auth-service", "notification-service", "tenant-service"]
    assert "/api/auth/login" in _ask(gateway.public, "/docs").text


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/api/auth/me", {f"x-{number}": "1" for number in range(97)}),
        ("/api/auth/me", {"x-long": "as long as may be"}),
        ("/api/auth/me/" + "<" * 8_000, {}),  # the gateway writes three bytes for each
    ],
)
def test_what_the_gateway_lets_through_is_not_too_large_for_the_services(
    gateway: GatewayAlone, people: People, path: str, headers: dict[str, str]
) -> None:
    token = {"authorization": f"Bearer {people('laoshi').token}"}
    host, port = gateway.public.removeprefix("http://").split(":")
    sent = {"host": host, "connection": "close"} | token | headers
    if "x-long" in sent:
        sent["x-long"] += "a" * (Limits().head_bytes - sum(len(name) + len(sent[name]) + 4 for name in sent))
    lines = "".join(f"{name}: {value}\r\n" for name, value in sent.items())
    with socket.create_connection((host, int(port)), timeout=20) as client:
        client.sendall(f"GET {path} HTTP/1.1\r\n{lines}\r\n".encode())
        answer = client.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 404 " if "<" in path else b"HTTP/1.1 200 "), answer[:200]


def test_what_services_say_to_each_other_is_not_for_the_public(
    gateway: GatewayAlone, behind: Behind, people: People
) -> None:
    token = {"authorization": f"Bearer {people('admin').token}"}
    for service, path in (
        (behind.auth, "/internal/auth/revocations"),
        (behind.tenant, "/internal/tenant/directory?id=platform"),
        (behind.auth, "/internal/openapi"),
    ):
        assert _ask(gateway.public, path, headers=token).status_code == 404
        assert _ask(service, path, headers=token).status_code == 401
        forged = {"x-identity": people("admin").token}
        assert _ask(service, path, headers=forged).status_code == 401
    assert _ask(behind.tenant, "/api/tenant/students", headers=token).status_code == 401


def test_an_ended_session_is_refused_by_every_worker(gateway: GatewayAlone, people: People) -> None:
    person = people.sign_in("laoshi", "Demo@2026")
    token = {"authorization": f"Bearer {person.token}"}
    # Each keeps a connection of its own: the kernel has spread them over the workers.
    clients = [httpx.Client(base_url=gateway.public, trust_env=False, timeout=20) for _ in range(16)]
    try:
        for client in clients:
            assert client.get("/api/auth/me", headers=token).status_code == 200
        assert person.post("/api/auth/logout").status == 200
        for client in clients:
            eventually(lambda client=client: client.get("/api/auth/me", headers=token).status_code == 401)
    finally:
        for client in clients:
            client.close()


def test_a_suspended_kindergarten_is_refused_by_every_worker(gateway: GatewayAlone, people: People) -> None:
    operator, principal = people("admin"), people("yuanzhang2")
    token = {"authorization": f"Bearer {principal.token}"}

    def everybody_gets(status: int) -> bool:
        return all(
            _ask(gateway.public, "/api/auth/me", headers=token).status_code == status for _ in range(8)
        )

    assert everybody_gets(200)
    try:
        assert (
            operator.call("PATCH", "/api/tenant/tenants/tenant_star", {"status": "suspended"}).status == 200
        )
        eventually(lambda: everybody_gets(403))
    finally:
        operator.call("PATCH", "/api/tenant/tenants/tenant_star", {"status": "active"})
    eventually(lambda: everybody_gets(200))


def test_a_rate_limit_counts_in_all_workers_together(behind: Behind, tmp_path: Path) -> None:
    routes = tmp_path / "routes.yaml"
    limited = "methods: [GET], auth: false, rateLimit: {max: 7, windowMs: 3600000}"
    routes.write_text(f"routes:\n  - {{path: /few, service: auth-service, {limited}}}\n", "utf-8")
    with started(GatewayAlone(tmp_path / "gateway", behind.told, routes=str(routes))) as gateway:
        # A new connection each time: the kernel gives them to either worker.
        answers = [_ask(gateway.public, "/few") for _ in range(20)]
        assert [answer.status_code for answer in answers] == [404] * 7 + [429] * 13
        assert [answer.headers["ratelimit-remaining"] for answer in answers[:7]] == list("6543210")


class _Caller(threading.Thread):
    """Asks on one connection, and on a new one when that is lost, until told to stop."""

    def __init__(self, base: str, path: str = "/api/nothing", **options: Any) -> None:
        super().__init__()
        self._base = base
        self._path = path
        self._options = options
        self.enough = threading.Event()
        self.statuses: list[int] = []
        self.losses: list[httpx.TransportError] = []
        self.start()

    def run(self) -> None:
        while not self.enough.is_set():
            with httpx.Client(base_url=self._base, trust_env=False, timeout=20, **self._options) as client:
                try:
                    while not self.enough.is_set():
                        self.statuses.append(client.get(self._path).status_code)
                except httpx.TransportError as loss:
                    self.losses.append(loss)

    def end(self) -> None:
        self.enough.set()
        self.join()


def test_a_killed_worker_takes_only_its_own_connections_with_it(services: Services, tmp_path: Path) -> None:
    with started(GatewayAlone(tmp_path, services.public)) as gateway:
        callers = [_Caller(gateway.public) for _ in range(12)]
        try:
            eventually(lambda: all(len(caller.statuses) > 20 for caller in callers))
            counts = [_counted(gateway)]
            victim = gateway.workers()[0]
            os.kill(victim, signal.SIGKILL)
            before = [len(caller.statuses) for caller in callers]

            def replaced() -> bool:
                counts.append(_counted(gateway))
                return victim not in gateway.workers() and _health(gateway)["status"] == "healthy"

            eventually(replaced)
            eventually(
                lambda: all(
                    len(caller.statuses) > was + 20 for caller, was in zip(callers, before, strict=True)
                )
            )
            counts.append(_counted(gateway))
        finally:
            for caller in callers:
                caller.end()
        assert len(gateway.workers()) == 2
        assert counts == sorted(counts)
        assert counts[-1] > counts[0] > 0
        # Whoever was connected to it loses that connection, once; the others notice nothing.
        assert all(len(caller.losses) <= 1 for caller in callers), [caller.losses for caller in callers]
        assert {status for caller in callers for status in caller.statuses} == {404}
        [told] = [entry for entry in gateway.logs() if entry["message"] == "worker ended"]
        assert (told["data"]["pid"], told["data"]["how"]) == (victim, "SIGKILL")
        assert gateway.stop() == 0


def test_a_worker_that_is_asked_to_leave_is_replaced_and_drops_nothing_new(
    services: Services, tmp_path: Path
) -> None:
    with started(GatewayAlone(tmp_path, services.public)) as gateway:
        statuses: list[int] = []
        victim = gateway.workers()[1]
        os.kill(victim, signal.SIGTERM)

        def replaced() -> bool:
            statuses.append(_ask(gateway.public, "/healthz").status_code)
            return victim not in gateway.workers() and _health(gateway)["status"] == "healthy"

        eventually(replaced)
        assert set(statuses) == {200}
        assert gateway.stop() == 0


def test_a_worker_that_hangs_is_ended_and_replaced(services: Services, tmp_path: Path) -> None:
    with started(GatewayAlone(tmp_path, services.public)) as gateway:
        before = _counted(gateway)
        victim = gateway.workers()[0]
        os.kill(victim, signal.SIGSTOP)
        assert _health(gateway)["checks"]["workers"]["error"] == "1 of 2 serve"
        assert _counted(gateway) >= before  # shown without it
        eventually(
            lambda: victim not in gateway.workers() and _health(gateway)["status"] == "healthy", within=60
        )
        assert any(entry["message"] == "worker does not answer; killed" for entry in gateway.logs())
        assert gateway.stop() == 0


def test_a_machine_that_can_start_no_worker_for_a_while_gets_one_later(
    services: Services, tmp_path: Path
) -> None:
    with started(GatewayAlone(tmp_path, services.public)) as gateway:
        assert gateway.process is not None
        supervisor, victim = gateway.process.pid, gateway.workers()[0]
        eventually(lambda: _health(gateway)["status"] == "healthy")  # all that it needs is loaded
        before = resource.prlimit(supervisor, resource.RLIMIT_NOFILE)
        resource.prlimit(supervisor, resource.RLIMIT_NOFILE, (0, before[1]))  # no new files
        os.kill(victim, signal.SIGKILL)
        eventually(lambda: any(entry["message"] == "no worker can be started" for entry in gateway.logs()))
        resource.prlimit(supervisor, resource.RLIMIT_NOFILE, before)
        eventually(lambda: _health(gateway)["status"] == "healthy")
        assert len(gateway.workers()) == 2
        assert gateway.stop() == 0


class _Slow(BaseHTTPRequestHandler):
    """A service that answers when it is told to."""

    arrived: threading.Semaphore
    go: threading.Event

    def do_GET(self) -> None:
        if self.path == "/slow":  # and no health check
            self.arrived.release()
            self.go.wait(20)
        self.send_response(200)
        self.send_header("content-length", "4")
        self.end_headers()
        self.wfile.write(b"slow")

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture
def slow() -> Iterator[tuple[type[_Slow], str]]:
    class Handler(_Slow):
        arrived = threading.Semaphore(0)
        go = threading.Event()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield Handler, f"http://127.0.0.1:{server.server_port}"
    Handler.go.set()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize("workers", [1, 2])
def test_sigterm_lets_slow_requests_end_and_takes_no_new_ones(
    services: Services, tmp_path: Path, slow: tuple[type[_Slow], str], workers: int
) -> None:
    handler, url = slow
    routes = tmp_path / "routes.yaml"
    routes.write_text(DEFAULT_ROUTES.read_text("utf-8") + SLOW_ROUTE, "utf-8")
    gateway = GatewayAlone(
        tmp_path / "gateway",
        services.public,
        workers=workers,
        upstreams=f"slow={url}",
        routes=str(routes),
        drain_s="20",
    )
    with started(gateway), ThreadPoolExecutor(6) as pool:
        requests = [pool.submit(_ask, gateway.public, "/slow") for _ in range(6)]
        for _ in requests:
            assert handler.arrived.acquire(timeout=20)
        assert gateway.process is not None
        gateway.process.send_signal(signal.SIGTERM)
        port = int(gateway.public.rpartition(":")[2])
        eventually(lambda: not _accepts(port))
        handler.go.set()
        assert [request.result().text for request in requests] == ["slow"] * 6
        assert gateway.process.wait(20) == 0


def _accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except ConnectionRefusedError:
        return False
    return True


def test_workers_do_not_outlive_their_supervisor(services: Services, tmp_path: Path) -> None:
    with started(GatewayAlone(tmp_path, services.public)) as gateway:
        workers = gateway.workers()
        assert len(workers) == 2
        assert gateway.process is not None
        gateway.process.kill()
        eventually(lambda: all(_is_gone(pid) for pid in workers))


def test_a_gateway_waits_for_its_services_and_survives_them(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    services = Services(tmp_path / "data", port=port)
    gateway = GatewayAlone(tmp_path / "gateway", f"http://127.0.0.1:{port}", workers=1)
    with started(gateway):
        assert _ask(gateway.public, "/healthz").status_code == 200
        assert _ask(gateway.public, "/readyz").status_code == 503
        assert "never heard" in _health(gateway)["checks"]["revocations"]["error"]
        assert _ask(gateway.public, "/api/openapi.json").json()["code"] == 503
        with started(services):
            eventually(lambda: _ask(gateway.public, "/readyz").status_code == 200)
            people = People(gateway.public)
            teacher = people("laoshi")
            assert teacher.get("/api/auth/me").status == 200
            assert services.stop() == 0
            # The token is still verified and the kindergarten known; only the service is missing.
            assert teacher.get("/api/auth/me").status in (502, 503)
            assert teacher.get("/api/nothing").status == 404
            assert _ask(gateway.public, "/readyz").status_code == 200
            assert _health(gateway)["checks"]["revocations"]["detail"].startswith("known as of ")
            services.start()
            eventually(lambda: teacher.get("/api/auth/me").status == 200)
            people.close()


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"upstreams": ""}, "YUANLIAN_UPSTREAMS: says nothing of"),
        ({"upstreams": "*=ftp://x"}, "YUANLIAN_UPSTREAMS"),
        ({"jwt_secret": None}, "YUANLIAN_JWT_SECRET: a gateway needs the one"),
        ({"tls_dir": "nowhere"}, "YUANLIAN_TLS_DIR: nowhere: No such file"),
        ({"routes": "nowhere.yaml"}, "nowhere.yaml"),
        ({"workers": "0"}, "YUANLIAN_WORKERS"),
        ({"host": "192.0.2.1"}, "cannot listen on 192.0.2.1"),
    ],
)
def test_what_a_gateway_cannot_follow_is_said_in_one_line(
    tmp_path: Path, settings: dict[str, str | None], complaint: str
) -> None:
    wanted = {"upstreams": "*=http://127.0.0.1:9", "jwt_secret": JWT_SECRET, "workers": "2"} | settings
    environment = {k: v for k, v in os.environ.items() if not k.startswith("YUANLIAN_")}
    environment |= {f"YUANLIAN_{name.upper()}": value for name, value in wanted.items() if value is not None}
    refused = subprocess.run(
        [sys.executable, "-m", "yuanlian.runtime.cli", "run", "gateway", "--port", "0", "--admin-port", "0"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert refused.returncode == 1
    assert complaint in refused.stderr
    assert len(refused.stderr.strip().splitlines()) == 1, refused.stderr
    assert JWT_SECRET not in refused.stderr


def test_lines_of_several_workers_do_not_mix(gateway: GatewayAlone) -> None:
    with ThreadPoolExecutor(8) as pool:
        started_at = time.time()
        while time.time() - started_at < 1.0:
            list(pool.map(lambda _: _ask(gateway.public, "/healthz"), range(32)))
    assert len({entry["message"] for entry in gateway.logs()}) > 1  # each line is one JSON object
