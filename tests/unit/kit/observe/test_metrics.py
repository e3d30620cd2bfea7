from __future__ import annotations

import os

from prometheus_client.parser import text_string_to_metric_families

from yuanlian.kit.observe.metrics import OTHER, BusiestTenants, Metrics


def samples(metrics: Metrics) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    families = text_string_to_metric_families(metrics.render().decode())
    return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}


def value(metrics: Metrics, name: str, **labels: str) -> float:
    return samples(metrics)[name, frozenset(labels.items())]


def tenants(metrics: Metrics) -> set[str]:
    return {dict(labels)["tenant_id"] for name, labels in samples(metrics) if name == "http_requests_total"}


def test_requests_are_counted_by_method_route_status_and_tenant() -> None:
    metrics = Metrics()
    for status in (201, 201, 400):
        metrics.request("POST", "/api/tenant/**", status, "t1", 0.02)
    labels = {"method": "POST", "route": "/api/tenant/**", "tenant_id": "t1"}
    assert value(metrics, "http_requests_total", status_code="201", **labels) == 2
    assert value(metrics, "http_requests_total", status_code="400", **labels) == 1


def test_durations_fall_into_the_contracts_buckets() -> None:
    metrics = Metrics()
    for seconds in (0.001, 0.005, 0.02, 60.0):
        metrics.request("GET", "/", 200, "t1", seconds)
    labels = {"method": "GET", "route": "/", "tenant_id": "t1"}
    name = "http_request_duration_seconds"
    assert value(metrics, f"{name}_bucket", le="0.005", **labels) == 2
    assert value(metrics, f"{name}_bucket", le="0.025", **labels) == 3
    assert value(metrics, f"{name}_bucket", le="5.0", **labels) == 3
    assert value(metrics, f"{name}_bucket", le="+Inf", **labels) == 4
    assert value(metrics, f"{name}_count", **labels) == 4
    assert value(metrics, f"{name}_sum", **labels) == 60.026


def test_open_connections_go_up_and_down() -> None:
    metrics = Metrics()
    metrics.connection("websocket", 1)
    metrics.connection("websocket", 1)
    metrics.connection("websocket", -1)
    assert value(metrics, "active_connections", type="websocket") == 1


def test_the_process_reports_its_own_memory() -> None:
    if not os.path.exists("/proc/self/stat"):
        return
    assert value(Metrics(), "process_resident_memory_bytes") > 1_000_000


def test_two_platforms_in_one_process_do_not_share_counts() -> None:
    first, second = Metrics(), Metrics()
    first.request("GET", "/", 200, "t1", 0.1)
    assert tenants(second) == set()


def test_invented_methods_do_not_make_series() -> None:
    metrics = Metrics()
    for number in range(50):
        metrics.request(f"BREW{number}", "/", 405, None, 0.1)
    labels = {"method": "OTHER", "route": "/", "tenant_id": ""}
    assert value(metrics, "http_requests_total", status_code="405", **labels) == 50


def test_only_so_many_tenants_have_a_label_of_their_own() -> None:
    metrics = Metrics(tenant_labels=3)
    for number in range(1_000):
        metrics.request("GET", "/", 200, f"t{number}", 0.1)
    assert tenants(metrics) == {"t0", "t1", "t2", OTHER}
    labels = {"method": "GET", "route": "/", "status_code": "200", "tenant_id": OTHER}
    assert value(metrics, "http_requests_total", **labels) == 997


def test_the_busiest_take_the_labels_of_those_gone_quiet() -> None:
    metrics = Metrics(tenant_labels=2, review_every=100)
    for number in range(10):
        metrics.request("GET", "/", 200, f"quiet{number}", 0.1)
    for _ in range(200):
        metrics.request("GET", "/", 200, "busy1", 0.1)
        metrics.request("GET", "/", 200, "busy2", 0.1)
    assert {"busy1", "busy2"} <= tenants(metrics)
    assert tenants(metrics) <= {"busy1", "busy2", OTHER}


def test_memory_is_bounded_whatever_arrives() -> None:
    busiest = BusiestTenants(limit=5, review_every=10**9)
    for number in range(10_000):
        busiest.label("steady")
        busiest.label(f"t{number}")
    assert len(busiest._counts) <= 40
    assert "steady" in busiest._counts
