"""An instance is killed, and somebody else listens at its address at once: who is asked there is noted."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.faults.test_distributed import TEACHERS, Reader
from tests.support.distributed import installed
from tests.support.platform import eventually

from yuanlian.gateway.routes import DEFAULT_ROUTES

GONE_S = 2.0
"""So long after its death it may still be asked. Issue 4."""
WATCHED_S = 10.0
"""Longer than the first ejection, after which an instance is tried again."""
_ANSWER = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class Impostor(threading.Thread):
    """Answers everything with 503, health checks too. ``asked``: when, on the monotonic clock, and for
    what."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self._listener = socket.create_server(("127.0.0.1", port), backlog=256)
        self._listener.settimeout(0.2)
        self._enough = threading.Event()
        self.asked: list[tuple[float, str]] = []

    def run(self) -> None:
        while not self._enough.is_set():
            try:
                connection, _ = self._listener.accept()
            except TimeoutError:
                continue
            with connection:
                self._serve(connection)
        self._listener.close()

    def finish(self) -> None:
        self._enough.set()
        self.join(timeout=10)

    def _serve(self, connection: socket.socket) -> None:
        connection.settimeout(1.0)
        try:
            head = connection.recv(65536)
            if head:
                self.asked.append((time.monotonic(), head.split(b"\r\n")[0].decode("latin-1")))
                connection.sendall(_ANSWER)
        except OSError:
            return  # the gateway closed first


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    folder = tmp_path_factory.mktemp("routing")
    routes: Path = folder / "routes.yaml"
    lines = DEFAULT_ROUTES.read_text(encoding="utf-8").splitlines()
    routes.write_text("\n".join(line for line in lines if "rateLimit:" not in line), encoding="utf-8")
    with installed(folder, replicas={"tenant": 2}, settings={"YUANLIAN_ROUTES": str(routes)}) as made:
        yield made.platform


def test_a_killed_instance_is_gone_from_routing_though_it_is_still_registered(platform: Any) -> None:
    base, port = platform.public, platform.ports["tenant"][1]
    eventually(lambda: len(_registered(platform)) == 2)
    readers = [Reader(base, name) for name in TEACHERS]
    for reader in readers:
        reader.start()
    impostor = None
    try:
        eventually(lambda: all(reader.answered > 20 for reader in readers))
        platform.parts["tenant-2"].kill()
        killed = time.monotonic()
        impostor = Impostor(port)
        impostor.start()
        time.sleep(WATCHED_S)
        assert len(_registered(platform)) == 2, "the registry has taken it away, which proves nothing"
    finally:
        for reader in readers:
            reader.finish()
        if impostor is not None:
            impostor.finish()
    assert [reader.failed for reader in readers] == [[]] * len(readers)
    late = [line for at, line in impostor.asked if at > killed + GONE_S]
    assert late, "nobody asks for its health"
    assert {line.split(" ")[1] for line in late} == {"/healthz"}


def _registered(platform: Any) -> list[dict[str, Any]]:
    services = httpx.get(f"{platform.admin}/services", trust_env=False, timeout=20).json()["services"]
    found: list[dict[str, Any]] = services.get("tenant-service", [])
    return found
