"""What operators see of the instances behind a gateway."""

from __future__ import annotations

import asyncio

from tests.support.instances import Sent, asking, instance, ok, upstream_to

from yuanlian.gateway.upstreams.ejection import EjectionPolicy
from yuanlian.gateway.upstreams.http import HttpOptions
from yuanlian.gateway.upstreams.sink import Collector
from yuanlian.kit.observe.metrics import Metrics
from yuanlian.runtime.upstream_metrics import watch


def test_an_ejected_instance_its_failures_and_the_retries_are_shown() -> None:
    async def scenario() -> None:
        def refuse(request: Sent, number: int) -> bytes:
            return ok(status=b"503 Service Unavailable")

        options = HttpOptions(health=None, ejection=EjectionPolicy(failures=1, first_s=60))
        async with (
            instance(refuse) as bad,
            instance(lambda *_: ok()) as good,
            upstream_to([bad.url, good.url], options) as upstream,
        ):
            metrics = Metrics()
            watch(metrics, [upstream])
            while not bad.requests:
                await upstream.forward(asking(retries=1), Collector())
            shown = metrics.render().decode().splitlines()
            ill, well = f'{{upstream="127.0.0.1:{bad.port}"}}', f'{{upstream="127.0.0.1:{good.port}"}}'
            assert f"upstream_in_use{ill} 0.0" in shown
            assert f"upstream_in_use{well} 1.0" in shown
            assert f"upstream_failures_total{ill} 1.0" in shown
            assert f"upstream_failures_total{well} 0.0" in shown
            assert f"upstream_outstanding{well} 0.0" in shown
            assert 'upstream_retries_total{service="svc"} 1.0' in shown

    asyncio.run(scenario())


def test_a_process_that_runs_several_services_is_one_instance() -> None:
    async def scenario() -> None:
        options = HttpOptions(health=None)
        async with (
            instance(lambda *_: ok()) as one,
            upstream_to([one.url], options) as first,
            upstream_to([one.url, "http://127.0.0.1:9"], options) as second,
        ):
            metrics = Metrics()
            watch(metrics, [first, second])
            for upstream in (first, second):
                next(iter(upstream.cluster.members.values())).failures = 2
            assert (
                f'upstream_failures_total{{upstream="127.0.0.1:{one.port}"}} 4.0' in metrics.render().decode()
            )

    asyncio.run(scenario())
