"""The tenant service as other services meet it: a ``ServiceClient`` in memory, and a way to call a
service's own application as a given person."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import httpx
import msgspec

from yuanlian.kit.http.app import ServiceApp
from yuanlian.kit.identity.internal import HEADER, InternalIdentity
from yuanlian.kit.identity.principal import Principal

Answer = Callable[[Principal, dict[str, str]], Any]


class TenantAnswers:
    """Answers each path with what its function returns (a contract's struct), or raises what it
    raises. Answers travel as JSON, as they do between processes."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.calls: list[tuple[str, Principal, dict[str, str]]] = []

    async def call(
        self,
        service: str,
        method: str,
        path: str,
        *,
        principal: Principal,
        query: dict[str, str] | None = None,
        data: Any = None,
    ) -> Any:
        assert (service, method, data) == ("tenant-service", "GET", None)
        self.calls.append((path, principal, query or {}))
        answer = self.answers[path](principal, query or {})
        return msgspec.json.decode(msgspec.json.encode(answer))


class Reply(NamedTuple):
    status: int
    body: dict[str, Any]

    @property
    def data(self) -> Any:
        return self.body["data"]

    @property
    def problems(self) -> dict[str, str]:
        return {detail["field"]: detail["message"] for detail in self.body["error"]["details"]}


async def ask(
    app: ServiceApp,
    identity: InternalIdentity,
    principal: Principal,
    method: str,
    path: str,
    data: Any = None,
    **headers: str,
) -> Reply:
    """One request to a service, as the gateway would forward it."""
    # httpx and Litestar each have types of their own for the same ASGI interface.
    transport = httpx.ASGITransport(app=cast("Any", app))
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as http:
        response = await http.request(
            method,
            path,
            json=None if data is None else {"data": data},
            headers={
                HEADER: identity.sign(principal),
                **{k.replace("_", "-"): v for k, v in headers.items()},
            },
        )
    return Reply(response.status_code, response.json())
