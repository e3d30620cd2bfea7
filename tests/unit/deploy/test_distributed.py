"""When a distributed platform says that it has been started."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from deploy import distributed
from deploy.distributed import Distributed
from deploy.servers.server import ServerError

SERVICES = ("auth", "tenant", "notification", "analytics")


class Gateway(ThreadingHTTPServer):
    """The admin listener of one that lists these instances of each service. ``answers``: what it says
    first, once each; None: nothing at all."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Services)
        self.listed: dict[str, list[dict[str, Any]]] = {}
        self.answers: list[bytes | None] = []
        self.asked = threading.Semaphore(0)


class _Services(BaseHTTPRequestHandler):
    server: Gateway

    def do_GET(self) -> None:
        answers = self.server.answers
        answer = answers.pop(0) if answers else _http({"services": self.server.listed})
        self.close_connection = True
        if answer is not None:
            self.wfile.write(answer)
        self.server.asked.release()

    def log_message(self, *_: object) -> None:
        """Nothing is wrong."""


def _http(body: object) -> bytes:
    encoded = json.dumps(body).encode()
    return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(encoded), encoded)


@contextmanager
def gateway() -> Iterator[Gateway]:
    with Gateway() as server:
        serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        serving.start()
        try:
            yield server
        finally:
            server.shutdown()
            serving.join()


def platform_behind(server: Gateway, folder: Path, **replicas: int) -> Distributed:
    platform = Distributed(folder, {}, replicas=replicas)
    platform.admin_port = server.server_address[1]
    server.listed = {f"{name}-service": [_up(port) for port in platform.ports[name]] for name in SERVICES}
    return platform


def _up(port: int) -> dict[str, Any]:
    return {"port": port, "status": "up"}


def _waits(platform: Distributed, server: Gateway) -> threading.Thread:
    """Still, after it has asked a few times."""
    waiting = threading.Thread(target=platform.await_found, daemon=True)
    waiting.start()
    for _ in range(3):
        assert server.asked.acquire(timeout=30)
    assert waiting.is_alive()
    return waiting


def test_a_service_that_listens_and_is_not_found_yet_is_waited_for(tmp_path: Path) -> None:
    """On a slow machine the first sign-in after the start was answered with 503."""
    with gateway() as server:
        platform = platform_behind(server, tmp_path)
        auth = server.listed.pop("auth-service")
        waiting = _waits(platform, server)
        server.listed["auth-service"] = auth
        waiting.join(timeout=30)
        assert not waiting.is_alive()


@pytest.mark.parametrize("other", [{"port": 1}, {"status": "draining"}], ids=["elsewhere", "leaving"])
def test_an_instance_of_a_former_run_does_not_count(tmp_path: Path, other: dict[str, Any]) -> None:
    """One that was killed stays in a Redis that others have, too, for up to a minute."""
    with gateway() as server:
        platform = platform_behind(server, tmp_path)
        [new] = server.listed["tenant-service"]
        server.listed["tenant-service"] = [new | other]
        waiting = _waits(platform, server)
        server.listed["tenant-service"] = [new | other, new]
        waiting.join(timeout=30)
        assert not waiting.is_alive()


def test_an_answer_that_says_nothing_is_asked_for_again(tmp_path: Path) -> None:
    with gateway() as server:
        platform = platform_behind(server, tmp_path)
        unreadable: list[object] = [
            None,
            [],
            {},
            {"services": None},
            {"services": []},
            {"services": {"auth-service": None}},
            {"services": {"auth-service": ["auth"]}},
            {"services": {"auth-service": [{}]}},
        ]
        server.answers = [
            None,
            b"SSH-2.0-OpenSSH_9.2\r\n",
            b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{",
            b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n{",
            b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n\xff",
            *map(_http, unreadable),
        ]
        platform.await_found()
        assert server.answers == []


def test_every_instance_counts_and_who_is_missing_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distributed, "START_S", 0.5)
    with gateway() as server:
        platform = platform_behind(server, tmp_path, tenant=2)
        server.listed["tenant-service"].pop()
        with pytest.raises(ServerError, match="does not find tenant:"):
            platform.await_found()
