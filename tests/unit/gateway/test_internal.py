"""The listener of services behind gateways: what it believes, and of whom."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import httpx

from yuanlian.contracts.edge import OPENAPI_PATH
from yuanlian.gateway.feed_follower import GATEWAY
from yuanlian.gateway.internal import InternalEdge
from yuanlian.gateway.observer import SilentObserver
from yuanlian.gateway.server import GatewayServer
from yuanlian.gateway.upstreams.asgi import AsgiUpstream
from yuanlian.kit.clock import SystemClock
from yuanlian.kit.identity.internal import InternalIdentity
from yuanlian.kit.identity.principal import Principal


class World:
    def __init__(self) -> None:
        self.scopes: list[dict[str, Any]] = []
        self.ready = True
        self.identity = InternalIdentity(b"i" * 32, SystemClock())

    async def app(self, scope: Any, receive: Any, send: Any) -> None:
        self.scopes.append(scope)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})

    async def is_ready(self) -> bool:
        return self.ready

    async def describe(self) -> dict[str, Any]:
        return {"openapi": "3.1.0"}


def _run(scenario: Callable[[World, httpx.AsyncClient], Coroutine[Any, Any, None]]) -> None:
    async def all_of_it() -> None:
        world = World()
        services = {"api/tenant": AsgiUpstream(world.app)}
        handler = InternalEdge(services, world.identity, describe=world.describe, ready=world.is_ready)
        server = GatewayServer(handler, SilentObserver())
        port = await server.start("127.0.0.1", 0)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
            await scenario(world, client)
        await server.stop(drain_s=1)

    asyncio.run(all_of_it())


def test_the_gateways_word_about_the_origin_counts() -> None:
    async def scenario(world: World, client: httpx.AsyncClient) -> None:
        told = {"x-forwarded-for": "203.0.113.9, 10.0.0.1", "x-forwarded-proto": "https"}
        assert (await client.get("/api/tenant/classes/%E5%B0%8F?limit=1", headers=told)).text == "ok"
        await client.get("/api/tenant/classes")
        first, second = world.scopes
        assert (first["client"][0], first["scheme"]) == ("203.0.113.9", "https")
        assert (first["path"], first["query_string"]) == ("/api/tenant/classes/小", b"limit=1")
        assert (second["client"][0], second["scheme"]) == ("127.0.0.1", "http")

    _run(scenario)


def test_paths_of_no_service_are_nobodys() -> None:
    async def scenario(world: World, client: httpx.AsyncClient) -> None:
        for path in ("/", "/api", "/api/auth/login", "/schema/openapi.json", "/internal/tenant/directory"):
            assert (await client.get(path)).json()["error"]["code"] == "NOT_FOUND"
        assert world.scopes == []

    _run(scenario)


def test_only_a_part_of_the_platform_is_shown_the_description() -> None:
    async def scenario(world: World, client: httpx.AsyncClient) -> None:
        person = Principal("user_1", "platform", permissions=frozenset({"tenant.write"}))
        stranger = InternalIdentity(b"o" * 32, SystemClock())
        for headers, status in (
            ({}, 401),
            ({"x-identity": "none"}, 401),
            ({"x-identity": stranger.sign(GATEWAY)}, 401),
            ({"x-identity": world.identity.sign(person)}, 403),
            ({"x-identity": world.identity.sign(GATEWAY)}, 200),
        ):
            assert (await client.get(OPENAPI_PATH, headers=headers)).status_code == status

    _run(scenario)


def test_health_checks_are_told_no_more_than_they_need() -> None:
    async def scenario(world: World, client: httpx.AsyncClient) -> None:
        assert (await client.get("/healthz")).json() == {"status": "ok"}
        assert (await client.get("/readyz")).json() == {"status": "ok"}
        world.ready = False
        answer = await client.get("/readyz")
        assert (answer.status_code, answer.json()) == (503, {"status": "unavailable"})

    _run(scenario)
