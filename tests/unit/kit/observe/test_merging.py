"""Metrics of several processes, shown as one."""

from __future__ import annotations

import re
from functools import partial

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from yuanlian.kit.observe.merging import MergedMetrics
from yuanlian.kit.observe.metrics import Metrics
from yuanlian.kit.observe.snapshot import Snapshot


def _sent(metrics: Metrics) -> Snapshot:
    """As it arrives in another process."""
    return msgspec.msgpack.decode(msgspec.msgpack.encode(metrics.snapshot()), type=Snapshot)


def _values(text: bytes, name: str) -> dict[str, float]:
    """By labels, those of one metric."""
    lines = re.findall(rf"^{name}(\{{.*\}})? (\S+)$", text.decode(), re.MULTILINE)
    return {labels: float(value) for labels, value in lines}


def _requests(merged: MergedMetrics) -> float:
    return sum(_values(merged.render(), "http_requests_total").values())


def test_one_process_is_shown_as_it_shows_itself() -> None:
    metrics, merged = Metrics(), MergedMetrics()
    metrics.request("GET", "/a", 200, "tenant_sun", 0.02)
    metrics.request("POST", "/a", 500, None, 7.0)
    metrics.connection("http", 1)
    metrics.watch("retries", "Retries", "service", lambda: {"tenant": 3.0}, kind="counter")
    merged.update("a", _sent(metrics))
    ours = [line for line in metrics.render().decode().splitlines() if not line.startswith("#")]
    together = merged.render().decode().splitlines()
    assert [line for line in ours if not line.startswith("process_")] == [
        line for line in together if line[0] != "#" and not line.startswith("process_")
    ]
    assert {line.split(" ")[0] for line in ours} == {
        line.split(" ")[0] for line in together if line[0] != "#"
    }


def test_counters_and_gauges_of_the_living_are_added() -> None:
    merged = MergedMetrics()
    for process, ends in (("a", 10.0), ("b", 20.0)):
        metrics = Metrics()
        metrics.request("GET", "/a", 200, None, 0.001)
        metrics.connection("http", 2)
        metrics.watch("certificate_ends", "When", "name", partial(dict, sun=ends), together="min")
        merged.update(process, _sent(metrics))
    shown = merged.render()
    assert _requests(merged) == 2
    assert _values(shown, "http_request_duration_seconds_count") == {
        '{method="GET",route="/a",tenant_id=""}': 2
    }
    assert _values(shown, "active_connections") == {'{type="http"}': 4}
    assert _values(shown, "certificate_ends") == {'{name="sun"}': 10}
    assert _values(shown, "process_cpu_seconds_total")[""] >= 0
    merged.ended("a")
    assert _requests(merged) == 2
    assert _values(merged.render(), "active_connections") == {'{type="http"}': 2}


def test_a_successor_counts_on_where_the_lost_one_ended() -> None:
    merged, first, second = MergedMetrics(), Metrics(), Metrics()
    for _ in range(5):
        first.request("GET", "/a", 200, None, 0.001)
    merged.update("first", _sent(first))
    merged.ended("first")
    merged.update("second", _sent(second))
    assert _requests(merged) == 5
    second.request("GET", "/a", 200, None, 0.001)
    merged.update("second", _sent(second))
    assert _requests(merged) == 6


def test_a_tenant_that_all_processes_forget_is_forgotten() -> None:
    merged = MergedMetrics()
    first, second = Metrics(tenant_labels=1, review_every=4), Metrics()
    for metrics in (first, second):
        metrics.request("GET", "/a", 200, "quiet", 0.001)
    merged.update("a", _sent(first))
    merged.update("b", _sent(second))
    for _ in range(8):
        first.request("GET", "/a", 200, "busy", 0.001)
    merged.update("a", _sent(first))
    assert 'tenant_id="quiet"' in merged.render().decode()  # the second still has it
    merged.update("b", _sent(Metrics()))
    shown = merged.render().decode()
    assert 'tenant_id="quiet"' not in shown
    assert 'tenant_id="busy"' in shown


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["ask", "request", "end"])), max_size=60))
def test_no_counter_ever_goes_back(steps: list[tuple[str, str]]) -> None:
    merged = MergedMetrics()
    living: dict[str, Metrics] = {}
    lives: dict[str, int] = {}
    shown = counted = 0.0
    for name, step in steps:
        metrics = living.setdefault(name, Metrics())
        process = f"{name}{lives.setdefault(name, 0)}"
        if step == "request":
            metrics.request("GET", "/a", 200, None, 0.001)
        elif step == "ask":
            merged.update(process, metrics.snapshot())
        else:
            merged.update(process, metrics.snapshot())
            merged.ended(process)
            del living[name]
            lives[name] += 1
        counted += step == "request"
        now = _requests(merged)
        assert now >= shown
        shown = now
    for name, metrics in living.items():
        merged.update(f"{name}{lives[name]}", metrics.snapshot())
    assert _requests(merged) == counted
