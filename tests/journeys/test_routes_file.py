"""An operator changes the routes of a running platform, or of a gateway whose services are elsewhere."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.support.distributed import found_by
from tests.support.platform import GatewayAlone, Platform, eventually, running, started

from yuanlian.gateway.routes import DEFAULT_ROUTES

PACKAGED = DEFAULT_ROUTES.read_text(encoding="utf-8")
LIMITED = """
  - path: /api/auth/me
    service: auth-service
    methods: [GET]
    auth: false
    rateLimit: { windowMs: 60000, max: 3 }
    limitBy: ip
"""
BROKEN = PACKAGED.replace("methods: [POST]", "methods: [SEND]", 1)


Start = Callable[..., AbstractContextManager[Platform]]


@pytest.fixture(params=["embedded", "distributed"])
def start(request: pytest.FixtureRequest, tmp_path: Path) -> Start:
    """Starts a platform, or a gateway of the distributed one, with given settings."""
    if request.param == "embedded":
        return lambda **settings: running(tmp_path / "data", demo=False, **settings)
    found = found_by(request.getfixturevalue("distributed"))
    return lambda **settings: started(GatewayAlone(tmp_path, found, workers=1, **settings))


@contextmanager
def _asking(platform: Platform) -> Iterator[list[Any]]:
    """Somebody whose requests never cease: the statuses they got, or why they got none."""
    answers: list[Any] = []
    enough = threading.Event()

    def ask() -> None:
        with httpx.Client(base_url=platform.public, trust_env=False, timeout=20) as http:
            while not enough.is_set():
                try:
                    answers.append(http.get("/api/analytics/nothing").status_code)
                except httpx.TransportError as error:
                    answers.append(error)

    people = [threading.Thread(target=ask) for _ in range(2)]
    for person in people:
        person.start()
    try:
        yield answers
    finally:
        enough.set()
        for person in people:
            person.join()


def test_a_changed_file_takes_over_and_a_bad_one_does_not(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "routes.yaml"
    path.write_text(PACKAGED, encoding="utf-8")
    with start(routes=str(path)) as platform, _asking(platform) as answers:
        assert _me(platform).status_code == 401
        assert "ratelimit-limit" not in _me(platform).headers

        path.write_text(PACKAGED + LIMITED, encoding="utf-8")
        eventually(lambda: _me(platform).headers.get("ratelimit-limit") == "3")
        eventually(lambda: _me(platform).status_code == 429)

        path.write_text(BROKEN, encoding="utf-8")
        refused = eventually(lambda: _logged(platform, "routes refused, the old table stays"))[0]["data"]
        assert refused["line"] == BROKEN[: BROKEN.index("SEND")].count("\n") + 1
        assert "SEND" in refused["reason"]
        assert _me(platform).status_code == 429

        path.write_text(PACKAGED, encoding="utf-8")
        eventually(lambda: _me(platform).status_code == 401)
        assert len(_logged(platform, "routes refused, the old table stays")) == 1
        assert len(answers) > 20
    assert set(answers) == {401}, "a request was dropped"


def test_a_hangup_reads_the_routes_anew(start: Start) -> None:
    with start() as platform:
        assert platform.process is not None
        for times in (1, 2):
            platform.process.send_signal(signal.SIGHUP)
            eventually(lambda times=times: len(_logged(platform, "routes replaced")) == times)
        assert _me(platform).status_code == 401


def _me(platform: Platform) -> httpx.Response:
    return httpx.get(platform.public + "/api/auth/me", trust_env=False, timeout=20)


def _logged(platform: Platform, message: str) -> list[dict[str, Any]]:
    return [entry for entry in platform.logs() if entry["message"] == message]
