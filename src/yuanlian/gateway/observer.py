"""What the edge tells those who watch it. Source: specification "日志和监控集成", CONTRACT §12."""

from __future__ import annotations

from typing import Literal, Protocol

from yuanlian.kit.observe.entry import AccessLine

ConnectionType = Literal["http", "websocket"]


class Observer(Protocol):
    """Called on the event loop once per request and connection: cheap, never blocks, never raises."""

    def request_finished(self, line: AccessLine) -> None:
        """``line.status`` is 499 when the client left before an answer."""
        ...

    def connection_opened(self, kind: ConnectionType) -> None: ...

    def connection_closed(self, kind: ConnectionType) -> None: ...


class SilentObserver:
    """Nobody watches."""

    def request_finished(self, line: AccessLine) -> None:
        pass

    def connection_opened(self, kind: ConnectionType) -> None:
        pass

    def connection_closed(self, kind: ConnectionType) -> None:
        pass
