"""The embedded platform as its own process, and clients that talk to it as people do."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import httpx
from websockets.sync.client import ClientConnection, connect

PASSWORD = "Demo@2026"
DEADLINE_S = 60.0
"""Patience for what has to happen: how soon it does is the machine's business, and no promise."""
JWT_SECRET = "a secret that gateways and services of the tests share"


def eventually(check: Any, *, within: float = DEADLINE_S) -> Any:
    """The first truthy answer of ``check``; fails after ``within`` seconds with the last one."""
    deadline = time.monotonic() + within
    while True:
        answer = check()
        if answer:
            return answer
        assert time.monotonic() < deadline, f"still {answer!r} after {within} s"
        time.sleep(0.02)


class Platform:
    """``yuanlian up`` on a data directory, on ports of its own choosing."""

    command: tuple[str, ...] = ("up",)
    ready = "platform ready"

    def __init__(self, data_dir: Path, *, demo: bool = True, **settings: str) -> None:
        self.data_dir = data_dir
        self._demo = demo
        self._settings = settings
        self.process: subprocess.Popen[str] | None = None
        self.public = ""
        self.admin = ""
        self.output: list[str] = []

    def start(self) -> Platform:
        self.spawn()
        self._await_ready()
        return self

    def spawn(self) -> None:
        """Starts the process without waiting for it."""
        command = [sys.executable, "-m", "yuanlian.runtime.cli", *self.command]
        command += ["--data-dir", str(self.data_dir), "--admin-port", "0"]
        if "--port" not in command:
            command += ["--port", "0"]
        if self._demo:
            command.append("--demo")
        environment = {k: v for k, v in os.environ.items() if not k.startswith("YUANLIAN_")}
        environment |= {f"YUANLIAN_{name.upper()}": value for name, value in self._settings.items()}
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed with the process
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env=environment,
            cwd=self.data_dir.parent,
        )
        self._ready = threading.Event()
        self._reader = threading.Thread(target=self._read, args=(self._ready,), daemon=True)
        self._reader.start()

    def stop(self, *, within: float = 10.0) -> int:
        """Ctrl-C; returns the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGINT)
        return self._ended(within)

    def kill(self) -> None:
        """``kill -9``: no goodbye."""
        assert self.process is not None
        self.process.kill()
        self._ended(10.0)

    def logs(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.output]

    def _ended(self, within: float) -> int:
        assert self.process is not None
        code = self.process.wait(timeout=within)
        self._reader.join(timeout=5)
        if self.process.stdout is not None:
            self.process.stdout.close()
        self._errors.close()
        return code

    def _last_words(self) -> str:
        self._errors.seek(0)
        return "".join(self.output[-20:]) + self._errors.read()

    def _await_ready(self) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while not self._ready.wait(0.02):
            assert self.process is not None
            assert self.process.poll() is None, "the platform ended: " + self._last_words()
            assert time.monotonic() < deadline, "the platform did not get ready"

    def _read(self, ready: threading.Event) -> None:
        assert self.process is not None
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.output.append(line)
            if not ready.is_set() and f'"{self.ready}"' in line:
                data = json.loads(line)["data"]
                self.public, self.admin = data["public"], data["admin"]
                ready.set()


P = TypeVar("P", bound=Platform)


class Services(Platform):
    """``yuanlian run services``."""

    def __init__(self, data_dir: Path, *, port: int = 0, demo: bool = True, **settings: str) -> None:
        super().__init__(data_dir, demo=demo, jwt_secret=JWT_SECRET, **settings)
        self.command = ("run", "services", "--port", str(port))


class GatewayAlone(Platform):
    """``yuanlian run gateway`` in front of ``services``: a base URL, ``*`` among the upstreams; or the
    settings by which it finds them in a registry."""

    ready = "gateway ready"

    def __init__(
        self,
        folder: Path,
        services: str | Mapping[str, str],
        *,
        workers: int = 2,
        upstreams: str = "",
        **settings: str,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        if isinstance(services, str):
            services = {"jwt_secret": JWT_SECRET, "upstreams": f"*={services};{upstreams}"}
        super().__init__(folder / "data", demo=False, **{**services, **settings})
        self.command = ("run", "gateway", "--workers", str(workers))

    def workers(self) -> list[int]:
        """The processes that serve."""
        assert self.process is not None
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in children.read_text().split()]


@contextmanager
def started(platform: P) -> Iterator[P]:
    """Runs it, and ends it whatever happens."""
    try:
        platform.start()
        yield platform
    finally:
        if platform.process is not None:
            platform.kill()


@contextmanager
def running(data_dir: Path, *, demo: bool = True, **settings: str) -> Iterator[Platform]:
    platform = Platform(data_dir, demo=demo, **settings).start()
    try:
        yield platform
    finally:
        if platform.process is not None and platform.process.poll() is None:
            platform.kill()


@dataclass
class Answer:
    status: int
    body: dict[str, Any]
    headers: httpx.Headers

    @property
    def data(self) -> Any:
        return self.body["data"]


@dataclass
class Person:
    """Somebody signed in, in one kindergarten."""

    http: httpx.Client
    token: str
    session: dict[str, Any]
    base: str
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def user_id(self) -> str:
        return str(self.session["user"]["id"])

    @property
    def tenant_id(self) -> str:
        return str(self.session["user"]["tenantId"])

    def call(self, method: str, path: str, data: Any = None, **options: Any) -> Answer:
        headers = {"authorization": f"Bearer {self.token}", **self.headers, **options.pop("headers", {})}
        if data is not None:
            options["json"] = {"data": data}
        response = self.http.request(method, path, headers=headers, **options)
        return Answer(response.status_code, response.json(), response.headers)

    def get(self, path: str, **options: Any) -> Answer:
        return self.call("GET", path, **options)

    def post(self, path: str, data: Any = None, **options: Any) -> Answer:
        return self.call("POST", path, data, **options)

    def check_in(self, student_id: str, **event: Any) -> Answer:
        return self.post(
            "/api/tenant/attendance/events", {"studentId": student_id, "type": "check_in", **event}
        )

    def inbox(self) -> list[dict[str, Any]]:
        return list(self.get("/api/notifications/?limit=200").data["items"])

    @contextmanager
    def socket(self, resume: str | None = None) -> Iterator[Socket]:
        """An authenticated ``/ws``."""
        with connect(self.base.replace("http", "ws", 1) + "/ws", compression=None) as connection:
            socket = Socket(connection)
            first = {"type": "auth", "token": self.token, "tenantId": self.tenant_id}
            socket.send(first if resume is None else {**first, "resume": resume})
            socket.hello = socket.receive()
            assert socket.hello["type"] == "auth_success", socket.hello
            yield socket


class Socket:
    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.hello: dict[str, Any] = {}

    def send(self, message: dict[str, Any]) -> None:
        self.connection.send(json.dumps(message))

    def receive(self, timeout: float = 30.0) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(self.connection.recv(timeout=timeout))
        return message

    def next(self, type_: str, timeout: float = 30.0) -> dict[str, Any]:
        """The next message of a type; others are skipped."""
        while True:
            message = self.receive(timeout)
            if message["type"] == type_:
                return message

    def silent(self, type_: str, *, until: float = 0.5) -> bool:
        """Whether no message of the type comes for a while."""
        try:
            self.next(type_, until)
        except TimeoutError:
            return True
        return False


class People:
    """Signs each demo account in once: the login is rate limited, as it should be."""

    def __init__(self, base: str) -> None:
        self.base = base
        self.http = httpx.Client(base_url=base, timeout=20, trust_env=False)
        self._known: dict[tuple[str, str | None], Person] = {}

    def __call__(self, username: str, tenant_id: str | None = None) -> Person:
        key = (username, tenant_id)
        if key not in self._known:
            self._known[key] = self.sign_in(username, PASSWORD, tenant_id)
        return self._known[key]

    def sign_in(self, username: str, password: str, tenant_id: str | None = None) -> Person:
        data = {"username": username, "password": password}
        if tenant_id is not None:
            data["tenantId"] = tenant_id
        response = self.http.post("/api/auth/login", json={"data": data})
        assert response.status_code == 200, response.text
        session = response.json()["data"]
        return Person(self.http, session["accessToken"], session, self.base)

    def close(self) -> None:
        self.http.close()
