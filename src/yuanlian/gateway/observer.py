"""What the edge tells those who watch it. Source: specification "日志和监控集成", CONTRACT §12."""

from __future__ import annotations

from typing import Literal, Protocol

ConnectionType = Literal["http", "websocket"]


class Observer(Protocol):
    """Called on the event loop once per request and connection: cheap, never blocks, never raises."""

    def request_finished(
        self,
        method: str,
        route: str,
        status: int,
        tenant_id: str,
        user_id: str,
        request_id: str,
        duration_s: float,
        bytes_in: int,
        bytes_out: int,
    ) -> None:
        """``route``: the template of the routing table, ``""`` when none matched. ``status``: 499
        when the client left before an answer. ``tenant_id``, ``user_id``: ``""`` when unknown.
        ``bytes_*``: body bytes."""
        ...

    def connection_opened(self, kind: ConnectionType) -> None: ...

    def connection_closed(self, kind: ConnectionType) -> None: ...


class SilentObserver:
    """Nobody watches."""

    def request_finished(
        self,
        method: str,
        route: str,
        status: int,
        tenant_id: str,
        user_id: str,
        request_id: str,
        duration_s: float,
        bytes_in: int,
        bytes_out: int,
    ) -> None:
        pass

    def connection_opened(self, kind: ConnectionType) -> None:
        pass

    def connection_closed(self, kind: ConnectionType) -> None:
        pass
