"""The metrics of several processes as one: counters of all there ever were, gauges of those that live.

A counter must never go back, or whoever computes rates from it sees a burst. So what grew since the last
snapshot is added to a total, and a process that ends takes nothing away; what it counted after its last
snapshot is lost with it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

from yuanlian.kit.observe.metrics import (
    NO_TENANT,
    OTHER,
    Series,
    SeriesKey,
    connection_family,
    render,
    request_families,
    watched_family,
)
from yuanlian.kit.observe.snapshot import SeriesSnapshot, Snapshot, Together, WatchedSnapshot

_COUNTED = frozenset({"process_cpu_seconds_total"})
_TOGETHER: dict[str, Together] = {"process_start_time_seconds": "min", "process_max_fds": "min"}
_CHOOSE: dict[Together, Callable[[Iterable[float]], float]] = {"sum": sum, "min": min, "max": max}
_LINGERING = 1_000
"""Tenants whose label no living process has; beyond it their series end, or crashes would pile them up."""


class MergedMetrics:
    """``update`` with each process's snapshots as they come, ``ended`` when it is no more. Processes are
    known by an id that is not used again."""

    def __init__(self) -> None:
        self._last: dict[str, Snapshot] = {}
        self._last_series: dict[str, dict[SeriesKey, SeriesSnapshot]] = {}
        self._series: dict[SeriesKey, Series] = {}
        self._counters: defaultdict[tuple[str, str], float] = defaultdict(float)

    def update(self, process: str, snapshot: Snapshot) -> None:
        before = self._last.get(process, Snapshot())
        old = self._last_series.get(process, {})
        new = {(one.method, one.route, one.tenant): one for one in snapshot.series}
        for key, series in new.items():
            _grow(self._series.setdefault(key, Series()), old.get(key), series)
        earlier = _counters(before)
        for counter, value in _counters(snapshot).items():
            was = earlier.get(counter, 0.0)
            self._counters[counter] += value - was if value >= was else value
        self._last[process] = snapshot
        self._last_series[process] = new
        self._forget({key[2] for key in old} - {key[2] for key in new})

    def ended(self, process: str) -> None:
        self._last.pop(process, None)
        self._last_series.pop(process, None)

    def render(self) -> bytes:
        """In Prometheus' text format."""
        return render(self._families())

    def _families(self) -> Iterator[Metric]:
        yield from request_families(self._series)
        connections: defaultdict[str, int] = defaultdict(int)
        for snapshot in self._last.values():
            for type_, count in snapshot.connections.items():
                connections[type_] += count
        yield connection_family(connections)
        yield from map(self._watched, _by_name(self._last.values()).values())
        yield from self._process()

    def _watched(self, watched: list[WatchedSnapshot]) -> Metric:
        first = watched[0]
        if first.kind == "counter":
            values = {label: total for (name, label), total in self._counters.items() if name == first.name}
        else:
            values = _joined([one.values for one in watched], first.together)
        return watched_family(
            WatchedSnapshot(first.name, first.documentation, first.label, first.kind, first.together, values)
        )

    def _process(self) -> Iterator[Metric]:
        living = [snapshot.process for snapshot in self._last.values()]
        for name in dict.fromkeys(name for process in living for name in process):
            if name in _COUNTED:
                counter = name.removesuffix("_total")
                yield CounterMetricFamily(counter, "Of all processes", self._counters[name, ""])
            else:
                values = [process[name] for process in living if name in process]
                yield GaugeMetricFamily(name, "Of all processes", _CHOOSE[_TOGETHER.get(name, "sum")](values))

    def _forget(self, lost: set[str]) -> None:
        """Series of tenants that no process labels any more end, as they do in each."""
        labelled = {key[2] for series in self._last_series.values() for key in series} | {NO_TENANT, OTHER}
        gone = lost - labelled
        lingering = {key[2] for key in self._series} - labelled
        if len(lingering) > _LINGERING:
            gone |= lingering
        if gone:
            self._series = {key: series for key, series in self._series.items() if key[2] not in gone}


def _grow(total: Series, old: SeriesSnapshot | None, new: SeriesSnapshot) -> None:
    """Adds what is new. A series that is smaller than it was began anew in between."""
    if old is not None and sum(new.buckets) < sum(old.buckets):
        old = None
    statuses = old.statuses if old is not None else {}
    buckets = old.buckets if old is not None else [0] * len(new.buckets)
    for status, count in new.statuses.items():
        total.statuses[status] += max(0, count - statuses.get(status, 0))
    for index, count in enumerate(new.buckets):
        total.buckets[index] += max(0, count - buckets[index])
    total.seconds += max(0.0, new.seconds - (old.seconds if old is not None else 0.0))


def _counters(snapshot: Snapshot) -> dict[tuple[str, str], float]:
    """By name and value of the label."""
    found = {
        (watched.name, label): value
        for watched in snapshot.watched
        if watched.kind == "counter"
        for label, value in watched.values.items()
    }
    return found | {(name, ""): value for name, value in snapshot.process.items() if name in _COUNTED}


def _by_name(snapshots: Iterable[Snapshot]) -> dict[str, list[WatchedSnapshot]]:
    found: defaultdict[str, list[WatchedSnapshot]] = defaultdict(list)
    for snapshot in snapshots:
        for watched in snapshot.watched:
            found[watched.name].append(watched)
    return found


def _joined(values: Sequence[Mapping[str, float]], together: Together) -> dict[str, float]:
    found: defaultdict[str, list[float]] = defaultdict(list)
    for one in values:
        for label, value in one.items():
            found[label].append(value)
    return {label: _CHOOSE[together](numbers) for label, numbers in found.items()}
