"""What services in other processes offer, asked of them all and shown as one OpenAPI document."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import structlog

from yuanlian.contracts.auth import SERVICE as AUTH
from yuanlian.contracts.edge import OPENAPI_PATH
from yuanlian.gateway import openapi
from yuanlian.gateway.feed_follower import GATEWAY
from yuanlian.gateway.routes import RouteTable
from yuanlian.gateway.upstreams.upstream import Upstream
from yuanlian.kit.errors import AppError, ServiceUnavailableError
from yuanlian.kit.http.client import ServiceClient

_log = structlog.get_logger("gateway")


async def describe(
    client: ServiceClient, upstreams: Mapping[str, Upstream], packaged: RouteTable, table: RouteTable
) -> dict[str, Any]:
    """``packaged``: the routes that we ship; an operator's ``table`` may leave out a service of ours, or
    name others, which have no description. Services that do not answer are left out, and named under
    ``x-missing-services``.

    Raises:
        AppError: nobody answers.
    """
    ours = {AUTH} | (_services(packaged) & _services(table))
    behind: dict[int, list[str]] = {}
    for name in sorted(ours):
        if (upstream := upstreams.get(name)) is not None:
            behind.setdefault(id(upstream), []).append(name)
    answers = await asyncio.gather(*(_ask(client, names[0]) for names in behind.values()))
    documents = [answer for answer in answers if not isinstance(answer, AppError)]
    if not documents:
        raise next(iter(answers), ServiceUnavailableError())
    document = openapi.join(documents)
    asked = zip(behind.values(), answers, strict=True)
    away = sorted(name for names, answer in asked if isinstance(answer, AppError) for name in names)
    if away:
        _log.warning("services left out of the description: they do not answer", services=away)
        document[openapi.MISSING] = away
    return document


async def _ask(client: ServiceClient, service: str) -> Any:
    """Its document, or the error in its place."""
    try:
        return await client.call(service, "GET", OPENAPI_PATH, principal=GATEWAY)
    except AppError as error:
        return error


def _services(table: RouteTable) -> set[str]:
    return {route.service for route in table.routes}
