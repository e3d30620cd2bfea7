"""The port between a connection and what a listener serves."""

from __future__ import annotations

from typing import Protocol

from yuanlian.gateway.http import Request
from yuanlian.gateway.response import ResponseWriter
from yuanlian.gateway.upgrade import UpgradeHandler


class Handler(Protocol):
    """What a listener serves."""

    def body_limit(self, request: Request) -> int:
        """Bytes that the body may have; asked once the head is known. An ``AppError`` refuses the
        request before its body is read, and closes."""
        ...

    def upgrade(self, request: Request) -> UpgradeHandler | None:
        """Who takes the connection over, when this request asks for it and may."""
        ...

    async def handle(self, request: Request, response: ResponseWriter) -> None:
        """Answers; called when the request is whole, or when its body is long enough to be streamed.
        An ``AppError`` raised before the response starts becomes its envelope. Cancelled when the
        client leaves, unless a write was already forwarded whole."""
        ...
