"""Kindergartens with certificates of their own, renewed while people are connected. TLS ends at the gateway,
whatever shape is behind it: each journey meets more than one."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from tests.support.certificates import DAY, Authority
from tests.support.distributed import found_by
from tests.support.platform import GatewayAlone, Platform, Services, eventually, started
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from deploy.distributed import Distributed

NOWHERE = "http://127.0.0.1:9"


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


def _shown(platform: Platform, authority: Authority, name: str) -> str:
    """The serial number of the certificate that ``name`` is shown."""
    port = int(platform.public.rpartition(":")[2])
    with (
        socket.create_connection(("127.0.0.1", port), timeout=20) as plain,
        authority.trust().wrap_socket(plain, server_hostname=name) as connection,
    ):
        certificate = connection.getpeercert()
        assert certificate is not None
        return str(certificate["serialNumber"])


def _ends(gateway: Platform) -> float:
    """When the certificate of sun ends, as the metrics say."""
    text = httpx.get(gateway.admin + "/metrics", trust_env=False, timeout=20).text
    name = 'tls_certificate_not_after_timestamp_seconds{certificate="sun"} '
    return float(text.partition(name)[2].partition("\n")[0])


@contextmanager
def _visitors(platform: Platform, trusted: ssl.SSLContext) -> Iterator[list[object]]:
    """Some keep their connection, some come anew each time; what they got, or why they got nothing."""
    answers: list[object] = []
    enough = threading.Event()

    def visit(keep: bool) -> None:
        client = httpx.Client(base_url=platform.public, verify=trusted, trust_env=False, timeout=20)
        headers = {} if keep else {"connection": "close"}
        with client:
            while not enough.is_set():
                request = client.build_request(
                    "GET", "/healthz", headers=headers, extensions={"sni_hostname": "sun.test"}
                )
                try:
                    answers.append(client.send(request).status_code)
                except httpx.TransportError as error:
                    answers.append(error)

    visitors = [threading.Thread(target=visit, args=(number % 2 == 0,)) for number in range(4)]
    for visitor in visitors:
        visitor.start()
    try:
        yield answers
    finally:
        enough.set()
        for visitor in visitors:
            visitor.join()


@pytest.mark.parametrize(
    ("how", "shape"),
    [("changed files", "nobody behind it"), ("SIGHUP", "distributed")],
    ids=lambda word: word,
)
def test_a_renewed_certificate_takes_over_in_all_workers_and_nobody_notices(
    request: pytest.FixtureRequest, tmp_path: Path, authority: Authority, how: str, shape: str
) -> None:
    behind = found_by(request.getfixturevalue("distributed")) if shape == "distributed" else NOWHERE
    folder = tmp_path / "tls"
    old = authority.write(folder / "sun.crt", "sun.test")
    star = authority.write(
        folder / "star" / "fullchain.pem", "star.test", key=folder / "star" / "privkey.pem"
    )
    gateway = GatewayAlone(tmp_path / "gateway", behind, workers=2, tls_dir=str(folder))
    with started(gateway):
        assert gateway.public.startswith("https://")
        assert {_shown(gateway, authority, "sun.test") for _ in range(6)} == {old}
        assert {_shown(gateway, authority, "star.test") for _ in range(6)} == {star}
        first_end = _ends(gateway)
        with _visitors(gateway, authority.trust()) as answers:
            eventually(lambda: len(answers) > 20)
            new = authority.write(folder / "sun.crt", "sun.test", valid=(-DAY, 200 * DAY))
            if how == "SIGHUP":
                assert gateway.process is not None
                gateway.process.send_signal(signal.SIGHUP)
            eventually(lambda: {_shown(gateway, authority, "sun.test") for _ in range(12)} == {new})
            seen = len(answers)
            eventually(lambda: len(answers) > seen + 20)
        # The supervisor, which shows the metrics of all, has it too.
        eventually(lambda: _ends(gateway) > first_end + 100 * DAY.total_seconds())
        assert set(answers) == {200}
        assert gateway.stop() == 0


@pytest.mark.parametrize("shape", ["embedded", "distributed"])
def test_what_is_wrong_with_a_certificate_is_seen_by_operators_and_nobody_else(
    request: pytest.FixtureRequest, tmp_path: Path, authority: Authority, shape: str
) -> None:
    folder = tmp_path / "tls"
    old = authority.write(folder / "sun.crt", "sun.test", valid=(-DAY, 3 * DAY))
    if shape == "embedded":
        made = Platform(tmp_path / "data", demo=False, tls_dir=str(folder))
    else:
        found = found_by(request.getfixturevalue("distributed"))
        made = GatewayAlone(tmp_path / "gateway", found, workers=1, tls_dir=str(folder))
    with started(made) as platform:

        def told() -> dict[str, str]:
            health = httpx.get(platform.admin + "/health", trust_env=False, timeout=20).json()
            check: dict[str, str] = health["checks"]["certificates"]
            return check

        assert told()["status"] == "healthy"
        assert told()["detail"].startswith("sun expires on ")
        metrics = httpx.get(platform.admin + "/metrics", trust_env=False, timeout=20).text
        assert 'tls_certificate_not_after_timestamp_seconds{certificate="sun"}' in metrics
        (folder / "sun.key").write_text("nothing")
        eventually(lambda: told()["status"] == "unhealthy")
        assert "sun.key: is no key that can be used" in told()["error"]
        assert _shown(platform, authority, "sun.test") == old
        with httpx.Client(verify=authority.trust(), trust_env=False, timeout=20) as client:
            ready = client.get(platform.public + "/readyz", extensions={"sni_hostname": "sun.test"})
        assert ready.status_code == 200  # its clients are served all the same
        [refused] = [entry for entry in platform.logs() if entry["message"] == "certificate refused"]
        assert refused["data"]["the_old_one_stays"]
        os.unlink(folder / "sun.key")
        assert platform.stop() == 0


def test_a_websocket_speaks_tls_too_in_process_and_through_a_worker_and_distributed(
    tmp_path: Path, authority: Authority, distributed: Distributed
) -> None:
    authority.write(tmp_path / "tls" / "sun.crt", "sun.test")
    folder = str(tmp_path / "tls")
    with started(Services(tmp_path / "services", demo=False)) as services:
        for platform in (
            Platform(tmp_path / "data", demo=False, tls_dir=folder),
            GatewayAlone(tmp_path / "gateway", services.public, workers=2, tls_dir=folder),
            GatewayAlone(tmp_path / "another", found_by(distributed), workers=2, tls_dir=folder),
        ):
            with (
                started(platform),
                connect(
                    platform.public.replace("https", "wss") + "/ws",
                    ssl=authority.trust(),
                    server_hostname="sun.test",
                    compression=None,
                ) as socket_,
            ):
                socket_.send(json.dumps({"type": "auth", "token": "none", "tenantId": "x"}))
                assert json.loads(socket_.recv(timeout=10))["type"] == "auth_error"
                with pytest.raises(ConnectionClosed) as closed:
                    socket_.recv(timeout=10)
                assert closed.value.rcvd is not None
                assert closed.value.rcvd.code == 4401
