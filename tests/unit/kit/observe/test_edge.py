from __future__ import annotations

import io
import json

from yuanlian.gateway.observer import Observer
from yuanlian.kit.observe.edge import EdgeObserver
from yuanlian.kit.observe.logs import Log
from yuanlian.kit.observe.metrics import Metrics


def test_a_finished_request_is_logged_and_counted() -> None:
    stream, metrics = io.StringIO(), Metrics()
    log = Log("gateway", stream)
    observer: Observer = EdgeObserver(log, metrics)
    observer.request_finished("POST", "/api/tenant/**", 201, "t1", "u1", "req_1", 0.0123, 80, 300)
    log.flush()
    line = json.loads(stream.getvalue())
    assert line.pop("timestamp")
    assert line == {
        "level": "info",
        "service": "gateway",
        "message": "POST /api/tenant/** 201",
        "tenantId": "t1",
        "userId": "u1",
        "requestId": "req_1",
        "data": {"method": "POST", "route": "/api/tenant/**", "status": 201, "bytesIn": 80, "bytesOut": 300},
        "duration": 12.3,
    }
    assert b'tenant_id="t1"' in metrics.render()


def test_a_request_without_route_or_caller_is_logged_too() -> None:
    stream = io.StringIO()
    log = Log("gateway", stream)
    EdgeObserver(log, Metrics()).request_finished("GET", "", 404, "", "", "req_1", 0.001, 0, 90)
    log.flush()
    line = json.loads(stream.getvalue())
    assert line["message"] == "GET unmatched 404"
    assert "tenantId" not in line
    assert "userId" not in line


def test_our_own_failures_stand_out() -> None:
    stream = io.StringIO()
    log = Log("gateway", stream)
    EdgeObserver(log, Metrics()).request_finished("GET", "/api/**", 502, "t1", "u1", "req_1", 0.001, 0, 90)
    log.flush()
    assert json.loads(stream.getvalue())["level"] == "error"


def test_connections_are_counted_while_they_are_open() -> None:
    metrics = Metrics()
    observer = EdgeObserver(Log("gateway", io.StringIO()), metrics)
    observer.connection_opened("websocket")
    assert b'active_connections{type="websocket"} 1.0' in metrics.render()
    observer.connection_closed("websocket")
    assert b'active_connections{type="websocket"} 0.0' in metrics.render()
