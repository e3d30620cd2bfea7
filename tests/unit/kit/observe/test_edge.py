from __future__ import annotations

import io
import json
from typing import Any

from yuanlian.gateway.observer import Observer
from yuanlian.kit.observe.edge import EdgeObserver
from yuanlian.kit.observe.entry import AccessLine
from yuanlian.kit.observe.logs import Log
from yuanlian.kit.observe.metrics import Metrics


def answered(method: str, route: str, status: int, **known: Any) -> AccessLine:
    values: dict[str, Any] = {
        "answered_ns": 1_700_000_000_000_000_000,
        "tenant_id": "t1",
        "user_id": "u1",
        "request_id": "req_1",
        "trace_id": "",
        "instance": "",
        "duration_s": 0.0123,
        "bytes_in": 80,
        "bytes_out": 300,
    }
    return AccessLine(method=method, route=route, status=status, **(values | known))


def test_a_finished_request_is_logged_and_counted() -> None:
    stream, metrics = io.StringIO(), Metrics()
    log = Log("gateway", stream)
    observer: Observer = EdgeObserver(log, metrics)
    observer.request_finished(answered("POST", "/api/tenant/**", 201, trace_id="ab" * 16))
    log.flush()
    line = json.loads(stream.getvalue())
    assert line.pop("timestamp") == "2023-11-14T22:13:20.000Z"
    assert line == {
        "level": "info",
        "service": "gateway",
        "message": "POST /api/tenant/** 201",
        "tenantId": "t1",
        "userId": "u1",
        "requestId": "req_1",
        "data": {
            "method": "POST",
            "route": "/api/tenant/**",
            "status": 201,
            "bytesIn": 80,
            "bytesOut": 300,
            "traceId": "ab" * 16,
        },
        "duration": 12.3,
    }
    assert b'tenant_id="t1"' in metrics.render()


def test_a_request_without_route_or_caller_is_logged_too() -> None:
    stream = io.StringIO()
    log = Log("gateway", stream)
    EdgeObserver(log, Metrics()).request_finished(answered("GET", "", 404, tenant_id="", user_id=""))
    log.flush()
    line = json.loads(stream.getvalue())
    assert line["message"] == "GET unmatched 404"
    assert "tenantId" not in line
    assert "userId" not in line


def test_our_own_failures_stand_out() -> None:
    stream = io.StringIO()
    log = Log("gateway", stream)
    EdgeObserver(log, Metrics()).request_finished(answered("GET", "/api/**", 502, instance="10.0.0.7:9000"))
    log.flush()
    line = json.loads(stream.getvalue())
    assert (line["level"], line["data"]["upstream"]) == ("error", "10.0.0.7:9000")


def test_connections_are_counted_while_they_are_open() -> None:
    metrics = Metrics()
    observer = EdgeObserver(Log("gateway", io.StringIO()), metrics)
    observer.connection_opened("websocket")
    assert b'active_connections{type="websocket"} 1.0' in metrics.render()
    observer.connection_closed("websocket")
    assert b'active_connections{type="websocket"} 0.0' in metrics.render()


def test_what_processes_ask_each_other_all_the_time_is_counted_and_logged_only_when_it_fails() -> None:
    stream, metrics = io.StringIO(), Metrics()
    log = Log("services", stream)
    observer: Observer = EdgeObserver(log, metrics, ("/healthz", "/internal/"))
    observer.request_finished(answered("GET", "/healthz", 200))
    observer.request_finished(answered("GET", "/internal/auth/**", 200))
    observer.request_finished(answered("GET", "/internal/auth/**", 503))
    observer.request_finished(answered("GET", "/api/auth/**", 200))
    log.flush()
    told = [json.loads(line)["message"] for line in stream.getvalue().splitlines()]
    assert told == ["GET /internal/auth/** 503", "GET /api/auth/** 200"]
    assert b'route="/internal/auth/**",status_code="200"' in metrics.render()
