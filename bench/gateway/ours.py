"""园联's gateway as operators start it: ``yuanlian run gateway``, everything on."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from bench.gateway.contender import Contender, Stage
from bench.gateway.processes import await_answer, free_port, running
from bench.gateway.scenario import SECRET

_COMMAND = [sys.executable, "-m", "yuanlian.runtime.cli", "run"]
_READY = b"GET /readyz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
_ROUTES = """
routes:
  - path: /api/tenant/**
    service: bench
    methods: [GET, POST]
    auth: true
    rateLimit: { windowMs: 900000, max: 100000000 }
"""
"""The tenant service's route, to the upstream that all contenders share."""


class Yuanlian(Contender):
    """Tenants and revocations come from real services (``yuanlian run services``, with the demo's
    kindergartens), which have nothing else to do meanwhile."""

    key = "yuanlian"
    name = "园联 yuanlian"
    features = "token, revocation, tenant, rate limit, JSON log, metrics"
    checks_token = True
    writes_log = True

    def __init__(self, data: Path) -> None:
        self._data = data
        self._services = 0

    @contextlib.contextmanager
    def beside(self, stage: Stage) -> Iterator[None]:
        port = free_port()
        command = [*_COMMAND, "services", "--demo", "--data-dir", str(self._data)]
        command += ["--port", str(port), "--admin-port", "0"]
        log = stage.run / "services.log"
        with running(command, stage.cores.others, log, {"YUANLIAN_JWT_SECRET": SECRET}) as process:
            await_answer(process, port, _READY, log)
            self._services = port
            yield

    def command(self, stage: Stage, port: int) -> tuple[list[str], Mapping[str, str]]:
        routes = stage.run / "routes.yaml"
        routes.write_text(_ROUTES)
        services = f"http://127.0.0.1:{self._services}"
        return [*_COMMAND, "gateway", "--port", str(port), "--admin-port", "0"], {
            "YUANLIAN_JWT_SECRET": SECRET,
            "YUANLIAN_ROUTES": str(routes),
            "YUANLIAN_UPSTREAMS": f"bench=http://127.0.0.1:{stage.upstream};*={services}",
        }

    def log_file(self, stage: Stage) -> Path:
        return stage.run / "output.log"
