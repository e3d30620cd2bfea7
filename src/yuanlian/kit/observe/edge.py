"""What happens at the edge, as access log and metrics: the gateway's ``Observer``."""

from __future__ import annotations

from yuanlian.kit.observe.logs import Log
from yuanlian.kit.observe.metrics import Metrics

UNMATCHED = "unmatched"


class EdgeObserver:
    """One access line and one count per request. The line names the route's template, not the path:
    paths carry ids of children, and logs live longer than they should be known."""

    def __init__(self, log: Log, metrics: Metrics) -> None:
        self._log = log
        self._metrics = metrics

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
        route = route or UNMATCHED
        self._metrics.request(method, route, status, tenant_id, duration_s)
        self._log.access(
            "error" if status >= 500 else "info",
            f"{method} {route} {status}",
            {"method": method, "route": route, "status": status, "bytesIn": bytes_in, "bytesOut": bytes_out},
            round(duration_s * 1000, 3),
            request_id,
            tenant_id,
            user_id,
        )

    def connection_opened(self, kind: str) -> None:
        self._metrics.connection(kind, 1)

    def connection_closed(self, kind: str) -> None:
        self._metrics.connection(kind, -1)
