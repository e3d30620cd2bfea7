"""What happens at the edge, as access log and metrics: the gateway's ``Observer``."""

from __future__ import annotations

import time

from yuanlian.kit.observe.entry import AccessLine
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
            AccessLine(
                time.time_ns(),
                method,
                route,
                status,
                tenant_id,
                user_id,
                request_id,
                duration_s,
                bytes_in,
                bytes_out,
            )
        )

    def connection_opened(self, kind: str) -> None:
        self._metrics.connection(kind, 1)

    def connection_closed(self, kind: str) -> None:
        self._metrics.connection(kind, -1)
