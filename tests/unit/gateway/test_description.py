"""The gateway asks services in other processes what they offer, and shows it in one document."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest
from structlog.testing import capture_logs
from tests.support.edge import run

from yuanlian.gateway.description import describe
from yuanlian.gateway.openapi import merge
from yuanlian.gateway.pages import INCOMPLETE_S, Pages
from yuanlian.gateway.routes import RouteTable
from yuanlian.gateway.service_client import UpstreamClient
from yuanlian.gateway.upstreams.asgi import AsgiUpstream
from yuanlian.gateway.upstreams.discovery import FixedInstances
from yuanlian.gateway.upstreams.http import HttpUpstream
from yuanlian.gateway.upstreams.upstream import Upstream
from yuanlian.kit.clock import SystemClock
from yuanlian.kit.envelope import encode
from yuanlian.kit.errors import ServiceUnavailableError
from yuanlian.kit.identity.internal import InternalIdentity

AUTH, TENANT, NEWS = "auth-service", "tenant-service", "notification-service"


class Service:
    """An ASGI application that describes ``names``, which it runs. ``before``: what it waits for."""

    def __init__(self, *names: str, before: Callable[[], Awaitable[object]] | None = None) -> None:
        documents: dict[str, Any] = {
            name: {"paths": {f"/api/{name}": {"get": {"responses": {}}}}} for name in names
        }
        self.document = merge(documents, "园联", "v1")
        self.asked: list[str] = []
        self._before = before

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.asked.append(scope["path"])
        if self._before is not None:
            await self._before()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        answer = {"success": True, "message": "", "data": self.document}
        await send({"type": "http.response.body", "body": encode(answer)})


def _table(*services: str) -> RouteTable:
    lines = [f"  - {{path: /api/{name}/**, service: {name}, methods: [GET]}}" for name in services]
    return RouteTable.load("\n".join(["routes:", *lines, ""]))


async def _away() -> HttpUpstream:
    """Of a service without an instance."""
    upstream = HttpUpstream("away", FixedInstances([]))
    await upstream.start()
    return upstream


async def _describe(
    upstreams: Mapping[str, Upstream], table: RouteTable, packaged: RouteTable | None = None
) -> dict[str, Any]:
    client = UpstreamClient(upstreams, InternalIdentity(b"i" * 32, SystemClock()))
    return await describe(client, upstreams, packaged or _table(AUTH, TENANT, NEWS), table)


def _tags(document: Mapping[str, Any]) -> list[str]:
    return sorted(tag["name"] for tag in document["tags"])


def test_services_are_asked_at_the_same_time() -> None:
    """In a row, each waits until all the others have been asked: for ever."""

    async def scenario() -> None:
        everybody = asyncio.Barrier(3)
        upstreams = {
            name: AsgiUpstream(Service(name, before=everybody.wait)) for name in (AUTH, TENANT, NEWS)
        }
        document = await _describe(upstreams, _table(TENANT, NEWS))
        assert _tags(document) == [AUTH, NEWS, TENANT]
        assert set(document["paths"]) == {f"/api/{name}" for name in (AUTH, TENANT, NEWS)}

    run(scenario)


def test_services_on_the_same_instances_are_asked_once() -> None:
    async def scenario() -> None:
        both = Service(AUTH, TENANT)
        upstreams = dict.fromkeys((AUTH, TENANT), AsgiUpstream(both))
        assert _tags(await _describe(upstreams, _table(TENANT))) == [AUTH, TENANT]
        assert both.asked == ["/internal/openapi"]

    run(scenario)


def test_a_service_that_is_away_is_left_out_and_named() -> None:
    """It took the description of all the others with it."""

    async def scenario() -> None:
        upstreams: dict[str, Upstream] = {
            AUTH: AsgiUpstream(Service(AUTH)),
            TENANT: await _away(),
            NEWS: await _away(),
        }
        with capture_logs() as logs:
            document = await _describe(upstreams, _table(TENANT, NEWS))
        assert _tags(document) == [AUTH]
        assert document["x-missing-services"] == [NEWS, TENANT]
        assert [(log["log_level"], log["services"]) for log in logs] == [("warning", [NEWS, TENANT])]

    run(scenario)


def test_when_nobody_answers_that_is_the_answer() -> None:
    async def scenario() -> None:
        with pytest.raises(ServiceUnavailableError):
            await _describe({AUTH: await _away(), TENANT: await _away()}, _table(TENANT))

    run(scenario)


def test_routes_that_name_a_service_nobody_knows_do_not_hide_the_others() -> None:
    """A table that was reloaded named one of which ``YUANLIAN_UPSTREAMS`` said nothing: KeyError."""

    async def scenario() -> None:
        upstreams = {AUTH: AsgiUpstream(Service(AUTH)), TENANT: AsgiUpstream(Service(TENANT))}
        document = await _describe(upstreams, _table(TENANT, NEWS))
        assert _tags(document) == [AUTH, TENANT]
        assert "x-missing-services" not in document

    run(scenario)


def test_only_services_of_ours_that_are_routed_are_asked() -> None:
    """Others have no such description."""

    async def scenario() -> None:
        theirs, unrouted = Service("shop"), Service(NEWS)
        upstreams = {
            AUTH: AsgiUpstream(Service(AUTH)),
            "shop": AsgiUpstream(theirs),
            NEWS: AsgiUpstream(unrouted),
        }
        assert _tags(await _describe(upstreams, _table(AUTH, "shop"))) == [AUTH]
        assert theirs.asked == unrouted.asked == []

    run(scenario)


def test_a_page_with_a_service_missing_is_not_kept_for_long() -> None:
    """Else who looked while a service was away would have decided what everybody sees from then on."""

    async def scenario() -> None:
        upstreams: dict[str, Upstream] = {AUTH: AsgiUpstream(Service(AUTH)), TENANT: await _away()}
        ours, again = _table(AUTH, TENANT), Service(TENANT)

        async def ready() -> bool:
            return True

        now = [0.0]
        pages = Pages(lambda: _describe(upstreams, ours), ready, lambda: now[0])

        async def shown() -> list[str]:
            page = pages.find(b"/api/openapi.json")
            assert page is not None
            return _tags(json.loads((await page()).body))

        assert await shown() == [AUTH]
        upstreams[TENANT] = AsgiUpstream(again)
        assert await shown() == [AUTH], "one that hangs must not be waited for by each who looks"
        now[0] += INCOMPLETE_S
        assert await shown() == [AUTH, TENANT]
        now[0] += INCOMPLETE_S
        assert await shown() == [AUTH, TENANT]
        assert len(again.asked) == 1

    run(scenario)
