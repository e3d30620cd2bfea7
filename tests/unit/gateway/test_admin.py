"""The admin listener over a real socket."""

from __future__ import annotations

import asyncio
import json

import httpx

from yuanlian.gateway.admin import Admin
from yuanlian.gateway.observer import SilentObserver
from yuanlian.gateway.routes import DEFAULT_ROUTES, RouteTable
from yuanlian.gateway.server import GatewayServer
from yuanlian.kit.clock import ManualClock
from yuanlian.kit.registry.memory import MemoryRegistry
from yuanlian.kit.registry.registry import Instance


def test_operators_see_metrics_health_routes_and_instances() -> None:
    health: dict[str, object] = {"status": "healthy", "checks": {}}

    async def scenario() -> None:
        registry = MemoryRegistry(ManualClock(1000))
        await registry.register(Instance("auth-service", "i1", "", 0, "0.1.0"))
        table = RouteTable.load(DEFAULT_ROUTES.read_text("utf-8"))

        async def check() -> dict[str, object]:
            return health

        async def metrics() -> bytes:
            return b"up 1\n"

        admin = Admin(metrics=metrics, health=check, table=lambda: table, registry=registry)
        server = GatewayServer(admin, SilentObserver())
        port = await server.start("127.0.0.1", 0)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
            shown = await client.get("/metrics")
            assert (shown.text, shown.headers["content-type"]) == (
                "up 1\n",
                "text/plain; version=0.0.4; charset=utf-8",
            )
            assert (await client.get("/health")).json() == health
            health["status"] = "unhealthy"
            assert (await client.get("/health")).status_code == 503
            routes = (await client.get("/routes")).json()["routes"]
            assert {"path": "/api/tenant/**", "auth": True}.items() <= routes[4].items()
            services = (await client.get("/services")).json()["services"]
            assert services["auth-service"][0]["lastHeartbeat"] == 1000
            assert (await client.get("/other")).json()["error"]["code"] == "NOT_FOUND"
            assert (await client.post("/metrics")).status_code == 405
            assert json.loads((await client.post("/metrics", content=b"x")).content)["code"] == 413
        await server.stop()

    asyncio.run(scenario())
