"""One service calls another in the same process, through its real application."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from litestar import Response, get, post
from litestar.params import FromQuery, JSONBody

from yuanlian.gateway.service_client import InProcessClient
from yuanlian.gateway.upstreams.asgi import ASGIApp
from yuanlian.kit.clock import SystemClock
from yuanlian.kit.context import RequestContext, current, serving
from yuanlian.kit.envelope import Body, Envelope
from yuanlian.kit.errors import (
    AuthorizationError,
    BadGatewayError,
    ConflictError,
    NotFoundError,
    ServiceUnavailableError,
    ValidationError,
)
from yuanlian.kit.http.app import caller, reply, require, service_app
from yuanlian.kit.i18n import Text
from yuanlian.kit.identity.internal import InternalIdentity
from yuanlian.kit.identity.principal import Principal
from yuanlian.kit.tenancy.scope import current_tenant

TEACHER = Principal("user_1", "a", permissions=frozenset({"student.read"}))


class Wish(msgspec.Struct, forbid_unknown_fields=True):
    count: int


@get("/who")
async def who(limit: FromQuery[int] = 0) -> Response[Envelope[list[Any]]]:
    """Who asks."""
    return reply([caller().user_id, current_tenant(), current().request_id, limit])


@post("/wish")
async def wish(data: JSONBody[Body[Wish]]) -> Response[Envelope[int]]:
    """Makes a wish."""
    if data.data.count == 7:
        raise ConflictError(Text("已有", "Taken"))
    return reply(data.data.count, 201)


@get("/forbidden")
async def forbidden() -> Response[Envelope[None]]:
    """Nobody may."""
    require("student.write")
    return reply(None)


async def no_envelope(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"<html>"})


def _run(scenario: Callable[[InProcessClient], Any]) -> None:
    identity = InternalIdentity(b"i" * 32, SystemClock())
    apps: dict[str, ASGIApp] = {
        "svc": service_app("svc", [who, wish, forbidden], identity),
        "odd": no_envelope,
    }
    asyncio.run(scenario(InProcessClient(apps, identity)))


def test_the_caller_their_tenant_and_the_request_id_travel_along() -> None:
    async def scenario(client: InProcessClient) -> None:
        with serving(RequestContext("req_1", "en", TEACHER)):
            answer = await client.call("svc", "GET", "/who", principal=TEACHER, query={"limit": "5"})
            assert current().request_id == "req_1"
        assert answer == ["user_1", "a", "req_1", 5]

    _run(scenario)


def test_data_is_wrapped_and_unwrapped() -> None:
    async def scenario(client: InProcessClient) -> None:
        assert await client.call("svc", "POST", "/wish", principal=TEACHER, data={"count": 3}) == 3

    _run(scenario)


def test_the_other_services_error_is_raised_here() -> None:
    async def scenario(client: InProcessClient) -> None:
        with pytest.raises(ConflictError) as conflict:
            await client.call("svc", "POST", "/wish", principal=TEACHER, data={"count": 7})
        assert conflict.value.message.zh == "已有"
        with pytest.raises(ValidationError) as invalid:
            await client.call("svc", "POST", "/wish", principal=TEACHER, data={"count": "x"})
        assert [detail.field for detail in invalid.value.details] == ["count"]
        with pytest.raises(AuthorizationError):
            await client.call("svc", "GET", "/forbidden", principal=TEACHER)
        with pytest.raises(NotFoundError):
            await client.call("svc", "GET", "/none", principal=TEACHER)

    _run(scenario)


def test_a_service_that_is_not_there_or_makes_no_sense_is_told_so() -> None:
    async def scenario(client: InProcessClient) -> None:
        with pytest.raises(ServiceUnavailableError):
            await client.call("none", "GET", "/", principal=TEACHER)
        with pytest.raises(BadGatewayError):
            await client.call("odd", "GET", "/", principal=TEACHER)

    _run(scenario)
