"""What happens at the edge, as access log and metrics: the gateway's ``Observer``."""

from __future__ import annotations

from yuanlian.kit.observe.entry import AccessLine
from yuanlian.kit.observe.logs import Log
from yuanlian.kit.observe.metrics import Metrics

UNMATCHED = "unmatched"


class EdgeObserver:
    """One access line and one count per request. The line names the route's template, not the path:
    paths carry ids of children, and logs live longer than they should be known.

    ``quiet``: beginnings of routes that say nothing while all is well: what processes ask each other every
    second or two."""

    def __init__(self, log: Log, metrics: Metrics, quiet: tuple[str, ...] = ()) -> None:
        self._log = log
        self._metrics = metrics
        self._quiet = quiet

    def request_finished(self, line: AccessLine) -> None:
        line.route = line.route or UNMATCHED
        self._metrics.request(line.method, line.route, line.status, line.tenant_id, line.duration_s)
        if not (self._quiet and line.status < 500 and line.route.startswith(self._quiet)):
            self._log.access(line)

    def connection_opened(self, kind: str) -> None:
        self._metrics.connection(kind, 1)

    def connection_closed(self, kind: str) -> None:
        self._metrics.connection(kind, -1)
