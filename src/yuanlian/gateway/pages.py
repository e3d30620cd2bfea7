"""What the public listener answers by itself: health, the API's description, the way to it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping
from time import monotonic
from typing import Any

from yuanlian.gateway.docs import CONTENT_SECURITY_POLICY, render
from yuanlian.gateway.http import Headers, Response
from yuanlian.gateway.openapi import MISSING
from yuanlian.kit.envelope import encode

Page = Callable[[], Awaitable[Response]]

PATHS = (b"/", b"/api/openapi.json", b"/docs", b"/healthz", b"/readyz")
_JSON: Headers = [(b"content-type", b"application/json"), (b"cache-control", b"no-store")]
_HTML: Headers = [
    (b"content-type", b"text/html; charset=utf-8"),
    (b"content-security-policy", CONTENT_SECURITY_POLICY.encode()),
]
_ALIVE = Response(200, _JSON, b'{"status":"ok"}')
_UNAVAILABLE = Response(503, _JSON, b'{"status":"unavailable"}')
_TO_DOCS = Response(302, [(b"location", b"/docs")])
INCOMPLETE_S = 5.0
"""How long a description that lacks a service is shown before all are asked again."""


class Pages:
    """``describe``: all services in one OpenAPI document; asked when somebody wants to see it, until none
    is missing. ``ready``: whether requests can be served now."""

    def __init__(
        self,
        describe: Callable[[], Awaitable[Mapping[str, Any]]],
        ready: Callable[[], Awaitable[bool]],
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._describe = describe
        self._ready = ready
        self._clock = clock
        self._described: tuple[Response, Response] | None = None
        self._until = math.inf
        self._describing = asyncio.Lock()
        pages: tuple[Page, ...] = (self._home, self._openapi, self._docs, self._healthz, self._readyz)
        self._pages = dict(zip(PATHS, pages, strict=True))

    def find(self, path: bytes) -> Page | None:
        return self._pages.get(path)

    async def _home(self) -> Response:
        return _TO_DOCS

    async def _healthz(self) -> Response:
        return _ALIVE

    async def _readyz(self) -> Response:
        return _ALIVE if await self._ready() else _UNAVAILABLE

    async def _openapi(self) -> Response:
        return (await self._description())[0]

    async def _docs(self) -> Response:
        return (await self._description())[1]

    async def _description(self) -> tuple[Response, Response]:
        async with self._describing:
            if self._described is not None and self._clock() < self._until:
                return self._described
            document = await self._describe()
            self._described = await asyncio.to_thread(_rendered, document)
            self._until = self._clock() + INCOMPLETE_S if MISSING in document else math.inf
            return self._described


def _rendered(document: Mapping[str, Any]) -> tuple[Response, Response]:
    return Response(200, _JSON, encode(document)), Response(200, _HTML, render(document).encode())
