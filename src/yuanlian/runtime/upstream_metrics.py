"""What a gateway knows of the instances behind it, as metrics."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping

from yuanlian.gateway.upstreams.cluster import Cluster, Member
from yuanlian.gateway.upstreams.http import HttpUpstream
from yuanlian.kit.observe.metrics import Metrics


def watch(metrics: Metrics, upstreams: Collection[HttpUpstream]) -> None:
    """Each process of a gateway judges for itself: an instance counts as in use when it is for all
    of them, and for all services that it runs. ``upstreams`` may grow."""

    def of_instances(
        value: Callable[[Cluster, Member], float], together: Callable[[Iterable[float]], float] = sum
    ) -> Callable[[], Mapping[str, float]]:
        def read() -> Mapping[str, float]:
            values: dict[str, list[float]] = {}
            for upstream in upstreams:
                for member in upstream.cluster.members.values():
                    values.setdefault(member.name, []).append(value(upstream.cluster, member))
            return {name: together(several) for name, several in values.items()}

        return read

    metrics.watch(
        "upstream_in_use",
        "Whether an instance gets requests",
        "upstream",
        of_instances(lambda cluster, member: float(member in cluster.usable), min),
        together="min",
    )
    metrics.watch(
        "upstream_outstanding",
        "Requests and tunnels under way in an instance",
        "upstream",
        of_instances(lambda _, member: member.outstanding),
    )
    metrics.watch(
        "upstream_failures",
        "Requests that an instance left unanswered, or answered with 502 to 504",
        "upstream",
        of_instances(lambda _, member: member.failures),
        kind="counter",
    )
    metrics.watch(
        "upstream_retries",
        "Requests asked again",
        "service",
        lambda: {upstream.name: upstream.retries for upstream in upstreams},
        kind="counter",
    )
