"""The specification's three metrics, and the process's own, in Prometheus' text format.

Counted by hand instead of through ``prometheus_client``'s labelled children: one dictionary look-up
per request, no locks, and series that can be taken back. Call from one thread, the event loop's.
Source: specification "监控指标", CONTRACT §12, DESIGN §5 last line.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from yuanlian.kit.observe.snapshot import Kind, SeriesSnapshot, Snapshot, Together, WatchedSnapshot

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""Upper bounds in seconds."""
OTHER = "other"
NO_TENANT = ""
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_BOUNDS = [*(str(bound) for bound in BUCKETS), "+Inf"]


class Series:
    """One method, route and tenant."""

    __slots__ = ("buckets", "seconds", "statuses")

    def __init__(self) -> None:
        self.statuses: defaultdict[int, int] = defaultdict(int)
        self.buckets = [0] * len(_BOUNDS)
        self.seconds = 0.0


SeriesKey = tuple[str, str, str]
"""Method, route and tenant."""


class BusiestTenants:
    """Which tenants have a label of their own: at most ``limit``, the rest are ``other``.

    Frequencies are kept by Misra-Gries ("Finding repeated elements", 1982) over ``8 * limit`` places,
    so memory is bounded whatever arrives. Labels are handed out while there are free ones, and every
    ``review_every`` requests the busiest of late get them; counts are halved then, so that "of late"
    has a meaning and a label does not change hands at every request; ``review`` is due when
    ``until_review`` is down to zero.
    """

    def __init__(self, limit: int = 100, review_every: int = 20_000) -> None:
        self._limit = limit
        self._review_every = review_every
        self.until_review = review_every
        self._counts: dict[str, int] = {}
        self._labelled: set[str] = set()

    def label(self, tenant_id: str) -> str:
        """Counts a request of the tenant, and says under which label."""
        self.until_review -= 1
        counts = self._counts
        if tenant_id in counts:
            counts[tenant_id] += 1
        else:
            self._first_seen(tenant_id)
        if tenant_id in self._labelled:
            return tenant_id
        if len(self._labelled) < self._limit:
            self._labelled.add(tenant_id)
            return tenant_id
        return OTHER

    def review(self) -> set[str]:
        """Gives the labels to the busiest and returns who lost theirs."""
        self.until_review = self._review_every
        ranked = sorted(self._counts, key=self._counts.__getitem__, reverse=True)
        kept = set(ranked[: self._limit])
        lost, self._labelled = self._labelled - kept, kept
        self._counts = {tenant: count // 2 for tenant, count in self._counts.items() if count > 1}
        return lost

    def _first_seen(self, tenant_id: str) -> None:
        counts = self._counts
        if len(counts) < 8 * self._limit:
            counts[tenant_id] = 1
        else:
            self._counts = {tenant: count - 1 for tenant, count in counts.items() if count > 1}


class Metrics(Collector):
    """Its own registry: several may live in one process (tests, several platforms)."""

    def __init__(self, tenant_labels: int = 100, review_every: int = 20_000) -> None:
        self.registry = CollectorRegistry()
        self._tenants = BusiestTenants(tenant_labels, review_every)
        self._series: dict[SeriesKey, Series] = {}
        self._connections: dict[str, int] = {}
        self._watched: list[Callable[[], WatchedSnapshot]] = []
        self.registry.register(self)
        self._process = ProcessCollector(registry=self.registry)

    def request(self, method: str, route: str, status: int, tenant_id: str | None, seconds: float) -> None:
        """``route`` is the template, never the path; unknown methods count as ``OTHER``."""
        tenants = self._tenants
        tenant = tenants.label(tenant_id) if tenant_id else NO_TENANT
        key = (method if method in _METHODS else "OTHER", route, tenant)
        series = self._series.get(key)
        if series is None:
            series = self._series[key] = Series()
        series.statuses[status] += 1
        series.buckets[bisect_left(BUCKETS, seconds)] += 1
        series.seconds += seconds
        if tenants.until_review <= 0:
            self._forget(tenants.review())

    def connection(self, type_: str, change: int) -> None:
        """``change``: +1 when one opened, -1 when one closed."""
        self._connections[type_] = self._connections.get(type_, 0) + change

    def watch(
        self,
        name: str,
        documentation: str,
        label: str,
        read: Callable[[], Mapping[str, float]],
        *,
        kind: Kind = "gauge",
        together: Together = "sum",
    ) -> None:
        """Shows what ``read`` returns, by value of ``label``; asked when somebody looks. Without a label
        (``""``) it is one number, found under ``""``. ``together``: what the values of several processes
        make; counters are always added."""
        self._watched.append(
            lambda: WatchedSnapshot(name, documentation, label, kind, together, dict(read()))
        )

    def render(self) -> bytes:
        return generate_latest(self.registry)

    def collect(self) -> Iterator[Metric]:
        """Called by the registry."""
        yield from request_families(self._series)
        yield connection_family(self._connections)
        yield from (watched_family(read()) for read in self._watched)

    def snapshot(self) -> Snapshot:
        """Everything, for a process that shows it together with that of others."""
        return Snapshot(
            series=[
                SeriesSnapshot(*key, dict(series.statuses), list(series.buckets), series.seconds)
                for key, series in self._series.items()
            ],
            connections=dict(self._connections),
            watched=[read() for read in self._watched],
            process={
                sample.name: sample.value for family in self._process.collect() for sample in family.samples
            },
        )

    def _forget(self, tenants: set[str]) -> None:
        """Their series end; adding them to ``other`` would look like a burst of requests there."""
        if tenants:
            self._series = {key: series for key, series in self._series.items() if key[2] not in tenants}


def request_families(series: Mapping[SeriesKey, Series]) -> Iterator[Metric]:
    total = CounterMetricFamily(
        "http_requests", "Total HTTP requests", labels=("method", "route", "status_code", "tenant_id")
    )
    duration = HistogramMetricFamily(
        "http_request_duration_seconds", "HTTP request duration", labels=("method", "route", "tenant_id")
    )
    for (method, route, tenant), one in series.items():
        for status, count in one.statuses.items():
            total.add_metric((method, route, str(status), tenant), count)
        duration.add_metric((method, route, tenant), _cumulative(one.buckets), one.seconds)
    yield from (total, duration)


def connection_family(connections: Mapping[str, int]) -> Metric:
    active = GaugeMetricFamily("active_connections", "Number of active connections", labels=("type",))
    for type_, count in connections.items():
        active.add_metric((type_,), count)
    return active


def watched_family(watched: WatchedSnapshot) -> Metric:
    kind = CounterMetricFamily if watched.kind == "counter" else GaugeMetricFamily
    family = kind(watched.name, watched.documentation, labels=(watched.label,) if watched.label else ())
    for value, number in watched.values.items():
        family.add_metric((value,) if watched.label else (), number)
    return family


def render(families: Iterable[Metric]) -> bytes:
    """In Prometheus' text format."""
    registry = CollectorRegistry()
    registry.register(_Fixed(list(families)))
    return generate_latest(registry)


class _Fixed(Collector):
    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> list[Metric]:
        return self._families


def _cumulative(buckets: list[int]) -> list[tuple[str, float]]:
    sums, running = [], 0
    for bound, count in zip(_BOUNDS, buckets, strict=True):
        running += count
        sums.append((bound, float(running)))
    return sums
