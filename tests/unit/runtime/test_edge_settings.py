"""What operators set of the edge, and routes that name new services while it runs."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from pydantic import ValidationError
from structlog.testing import capture_logs
from tests.support.edge import edge, run
from tests.support.instances import asking, instance, ok

from yuanlian.gateway.limits import Limits
from yuanlian.gateway.routes import RouteTable
from yuanlian.gateway.upstreams.discovery import RegisteredInstances
from yuanlian.gateway.upstreams.http import HttpUpstream
from yuanlian.gateway.upstreams.sink import Collector
from yuanlian.kit.clock import SystemClock
from yuanlian.kit.registry.memory import MemoryRegistry
from yuanlian.kit.registry.registry import Instance
from yuanlian.runtime.listening import client_limits
from yuanlian.runtime.routing import reload, routes_of
from yuanlian.runtime.service_upstreams import Upstreams
from yuanlian.runtime.settings import Settings

ROUTES = """
routes:
  - {path: /open/**, service: svc, methods: [GET], auth: false}
  - {path: /own, service: svc, methods: [GET], auth: false, headers: {strict-transport-security: max-age=60}}
  - {path: /none, service: svc, methods: [GET], auth: false, headers: {strict-transport-security: null}}
  - {path: /script, service: svc, methods: [GET], auth: false, cors: {origins: ["https://a.test"]}}
"""
NEW = "routes:\n  - {path: /open/**, service: new-service, methods: [GET], auth: false}\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "routes.yaml"
    path.write_text(ROUTES)
    return path


def test_limits_are_what_they_were_unless_they_are_set() -> None:
    assert client_limits(Settings()) == Limits()
    settings = Settings(header_timeout_s=5, body_timeout_s=6, keep_alive_s=7, connections_per_address=8)
    assert client_limits(settings) == Limits(head_s=5, body_stall_s=6, idle_s=7, connections_per_address=8)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("connections_per_address", 0),
        ("header_timeout_s", 0),
        ("body_timeout_s", -1),
        ("keep_alive_s", 100_000),
        ("bad_tokens_per_minute", -1),
        ("hsts", "yes"),
        ("hsts", "max-age=1\r\nx: y"),
        ("hsts", "max-age=1\n"),
    ],
)
def test_a_limit_that_makes_no_sense_is_refused(name: str, value: object) -> None:
    with pytest.raises(ValidationError, match=name):
        Settings.model_validate({name: value})


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, {"/own": "max-age=60"}),
        ({"tls_dir": "tls", "hsts": "off"}, {"/own": "max-age=60"}),
        (
            {"tls_dir": "tls"},
            {
                "/own": "max-age=60",
                **dict.fromkeys(("/open/x", "/script", "/unknown", "/docs"), "max-age=31536000"),
            },
        ),
    ],
)
def test_browsers_are_told_to_stay_with_https_where_it_is_spoken(
    path: Path, settings: dict[str, str], said: dict[str, str]
) -> None:
    async def scenario() -> None:
        async with edge() as e:
            await reload(routes_of(Settings.model_validate({**settings, "routes": path})), e.gateway)
            answers = {
                where: (await e.get(where)).headers.get("strict-transport-security")
                for where in ("/open/x", "/own", "/none", "/script", "/unknown", "/docs")
            }
            assert {where: value for where, value in answers.items() if value} == said

    run(scenario)


def test_a_service_that_routes_begin_to_name_is_found_without_a_restart(path: Path) -> None:
    """It was answered with 503 until the gateway was started anew."""

    async def scenario() -> None:
        registry = MemoryRegistry(SystemClock())

        def make(name: str) -> HttpUpstream:
            return HttpUpstream(name, RegisteredInstances(registry, name))

        upstreams = Upstreams({"svc": make("svc")}, make)
        await upstreams.start()
        async with instance(lambda *_: ok()) as one, edge() as e:
            host, port = "127.0.0.1", int(one.url.rpartition(":")[2])
            await registry.register(Instance("new-service", "new-1", host, port, "1"))
            path.write_text(NEW)
            source = routes_of(Settings(routes=path))
            await asyncio.gather(*(reload(source, e.gateway, upstreams.take_in) for _ in range(3)))
            sink = Collector()
            await upstreams["new-service"].forward(asking(), sink)
            assert sink.body() == b"fine"
            assert sorted(upstream.name for upstream in upstreams.distinct) == ["new-service", "svc"]
        await upstreams.stop()

    run(scenario)


def test_a_service_that_is_written_down_nowhere_is_complained_of() -> None:
    with capture_logs() as logs:
        asyncio.run(Upstreams({}).take_in(RouteTable.load(NEW)))
    assert [(log["log_level"], log["service"]) for log in logs] == [("warning", "new-service")]
