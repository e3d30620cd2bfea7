"""A service asked for what it does not have still answers in the envelope."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from litestar import Response, get
from litestar.params import FromPath

from yuanlian.kit.clock import SystemClock
from yuanlian.kit.envelope import Envelope
from yuanlian.kit.http.app import reply, service_app
from yuanlian.kit.identity.internal import InternalIdentity


@get("/api/things/{thing_id:str}")
async def _thing(thing_id: FromPath[str]) -> Response[Envelope[str]]:
    return reply(thing_id)


@pytest.mark.parametrize(
    ("method", "path", "status", "code", "allow"),
    [
        ("GET", "/api/nothing", 404, "NOT_FOUND", None),
        ("PUT", "/api/things/1", 405, "METHOD_NOT_ALLOWED", "GET"),
    ],
)
def test_no_route_and_no_method_are_answered(
    method: str, path: str, status: int, code: str, allow: str | None
) -> None:
    async def scenario() -> None:
        app = service_app("things", [_thing], InternalIdentity(bytes(32), SystemClock()))
        transport = httpx.ASGITransport(app)  # type: ignore[arg-type] # Litestar types its scopes
        async with httpx.AsyncClient(transport=transport, base_url="http://things") as client:
            response = await client.request(method, path)
        assert (response.status_code, response.json()["error"]["code"]) == (status, code)
        if allow is not None:
            assert allow in response.headers["allow"]

    asyncio.run(scenario())
