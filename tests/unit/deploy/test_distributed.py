"""When a distributed platform says that it has been started."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from deploy import distributed
from deploy.distributed import Distributed
from deploy.servers.server import ServerError

SERVICES = ("auth", "tenant", "notification", "analytics")


class Gateway(ThreadingHTTPServer):
    """The admin listener of one that lists these instances of each service."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Services)
        self.listed = {f"{name}-service": [{"id": name}] for name in SERVICES}
        self.asked = threading.Semaphore(0)


class _Services(BaseHTTPRequestHandler):
    server: Gateway

    def do_GET(self) -> None:
        body = json.dumps({"services": self.server.listed}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.server.asked.release()

    def log_message(self, *_: object) -> None:
        """Nothing is wrong."""


@contextmanager
def gateway() -> Iterator[Gateway]:
    with Gateway() as server:
        serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        serving.start()
        yield server
        server.shutdown()
        serving.join()


def platform_behind(server: Gateway, folder: Path, **replicas: int) -> Distributed:
    platform = Distributed(folder, {}, replicas=replicas)
    platform.admin_port = server.server_address[1]
    return platform


def test_a_service_that_listens_and_is_not_found_yet_is_waited_for(tmp_path: Path) -> None:
    """On a slow machine the first sign-in after the start was answered with 503."""
    with gateway() as server:
        auth = server.listed.pop("auth-service")
        waiting = threading.Thread(target=platform_behind(server, tmp_path).await_found)
        waiting.start()
        for _ in range(3):
            assert server.asked.acquire(timeout=30)
        assert waiting.is_alive()
        server.listed["auth-service"] = auth
        waiting.join(timeout=30)
        assert not waiting.is_alive()


def test_every_instance_counts_and_who_is_missing_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distributed, "START_S", 0.5)
    with gateway() as server:
        platform = platform_behind(server, tmp_path, tenant=2)
        with pytest.raises(ServerError, match="does not find tenant:"):
            platform.await_found()
