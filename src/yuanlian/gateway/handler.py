"""The port between a connection and what a listener serves."""

from __future__ import annotations

from typing import Protocol

from yuanlian.gateway.http import Request
from yuanlian.gateway.response import ResponseWriter
from yuanlian.gateway.upgrade import UpgradeHandler
from yuanlian.gateway.upstreams.upstream import Then, Underway


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


class PromptHandler:
    """A ``Handler`` that can do without a task of its own for a request as long as there is nothing to wait
    for: a task costs as much as everything else that happens to the request. docs/decisions/0015."""

    def begin(self, request: Request, response: ResponseWriter, then: Then) -> Underway | None:
        """``handle`` for a whole request, as far as it goes at once. Returns who will call ``then``, or None
        when that was done already. Raises what ``handle`` raises."""
        raise NotImplementedError
