"""What a listener serves when it speaks TLS."""

from __future__ import annotations

from yuanlian.gateway.handler import Handler
from yuanlian.gateway.http import Request
from yuanlian.gateway.response import ResponseWriter
from yuanlian.gateway.upgrade import UpgradeHandler


class SecureHandler:
    """Implements ``Handler``: every request came over ``https``, whatever it says."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler

    def body_limit(self, request: Request) -> int:
        request.scheme = "https"
        return self._handler.body_limit(request)

    def upgrade(self, request: Request) -> UpgradeHandler | None:
        request.scheme = "https"
        return self._handler.upgrade(request)

    async def handle(self, request: Request, response: ResponseWriter) -> None:
        request.scheme = "https"
        await self._handler.handle(request, response)
