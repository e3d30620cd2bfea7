"""What a listener serves when it speaks TLS."""

from __future__ import annotations

from yuanlian.gateway.handler import Handler, PromptHandler
from yuanlian.gateway.http import Request
from yuanlian.gateway.response import ResponseWriter
from yuanlian.gateway.upgrade import UpgradeHandler
from yuanlian.gateway.upstreams.upstream import Then, Underway


class SecureHandler(PromptHandler):
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

    def begin(self, request: Request, response: ResponseWriter, then: Then) -> Underway | None:
        request.scheme = "https"
        if isinstance(self._handler, PromptHandler):
            return self._handler.begin(request, response, then)
        then(self._handler.handle(request, response))
        return None
