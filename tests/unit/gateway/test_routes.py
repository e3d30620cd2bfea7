"""The routing table. CONTRACT §4."""

from __future__ import annotations

import pytest

from yuanlian.gateway.paths import safe_path
from yuanlian.gateway.routes import DEFAULT_ROUTES, RouteTable
from yuanlian.gateway.routes_file import RoutesError
from yuanlian.kit.errors import MethodNotAllowedError, NotFoundError


def _table(*routes: str) -> RouteTable:
    lines = [
        f"  - {{path: {path}, service: {path}, methods: [{methods}]}}"
        for path, methods in map(str.split, routes)
    ]
    return RouteTable.load("routes:\n" + "\n".join(lines))


@pytest.mark.parametrize(
    ("path", "service"),
    [
        ("/a/b", "/a/b"),
        ("/a/c", "/a/*"),
        ("/a/b/c", "/a/b/**"),
        ("/a/x/c", "/a/*/c"),
        ("/a/x/d", "/a/**"),
        ("/a", "/a/**"),
        ("/a/", "/a/**"),
        ("/a/b/", "/a/b"),
        ("/z/1/2/3", "/**"),
    ],
)
def test_the_most_specific_path_wins_whatever_the_order(path: str, service: str) -> None:
    routes = ["/** GET", "/a/** GET", "/a/* GET", "/a/b GET", "/a/b/** GET", "/a/*/c GET"]
    for order in (routes, routes[::-1]):
        assert _table(*order).match("GET", path).service == service


def test_a_specific_path_that_leads_nowhere_gives_way() -> None:
    table = _table("/a/b/c GET", "/a/** GET")
    assert table.match("GET", "/a/b/d").service == "/a/**"


def test_routes_of_one_path_differ_by_method() -> None:
    table = RouteTable.load(
        "routes:\n - {path: /a, service: reads, methods: [GET]}\n"
        " - {path: /a, service: writes, methods: [POST]}"
    )
    assert [table.match(m, "/a").service for m in ("GET", "HEAD", "POST")] == ["reads", "reads", "writes"]
    with pytest.raises(MethodNotAllowedError) as refused:
        table.match("PUT", "/a")
    assert refused.value.headers == (("allow", "GET, HEAD, POST"),)


def test_a_path_without_route_is_not_found() -> None:
    with pytest.raises(NotFoundError, match="No such endpoint"):
        _table("/a/* GET").match("GET", "/a/b/c")


ROUTE = "routes:\n  - path: /a\n    service: s\n    methods: [GET]\n"
OTHER = "  - {path: /a/, service: t, methods: [GET]}"


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("", 1, "key `routes`"),
        ("routes: [", 1, "stream end"),
        ("paths: []", 1, "unknown key `paths`"),
        ("routes:\n  a: 1", 2, "must be a list"),
        ("routes:\n  - 3", 2, "Expected `object`"),
        ("routes:\n  - path: /a\n    methods: [GET]", 2, "missing required field `service`"),
        (ROUTE.replace("GET", "GTE"), 4, "GTE"),
        (ROUTE.replace("/a", "a"), 2, "matching regex"),
        (ROUTE.replace("/a", "/**/a"), 2, "`**` for the last ones"),
        (ROUTE.replace("/a", "/a*"), 2, "whole segment"),
        (ROUTE + "    retires: 3", 5, "unknown field `retires`"),
        (ROUTE + "    timeoutMs: 0", 5, ">= 1"),
        (ROUTE + "    rateLimit:\n      max: x\n      windowMs: 1", 6, "`int`"),
        (ROUTE + "    retries: 6", 5, "<= 5"),
        (ROUTE + "    upgrade: [websocket, h2c]", 5, "matching regex"),
        (ROUTE + OTHER, 5, "already on line 2"),
        ("routes:\n  - !!python/object:os.system {}", 2, "could not determine a constructor"),
        ("routes:\n  - path: 2026-99-99", 2, "month"),
        ("[" * 5000, 1, "nested too deeply"),
    ],
)
def test_a_bad_table_is_refused_with_line_and_reason(text: str, line: int, reason: str) -> None:
    with pytest.raises(RoutesError) as refused:
        RouteTable.load(text)
    assert refused.value.line == line
    assert reason in refused.value.reason


def test_the_default_table_keeps_the_contract() -> None:
    table = RouteTable.load(DEFAULT_ROUTES.read_text("utf-8"))
    login = table.match("POST", "/api/auth/login")
    assert (login.auth, login.rate_limit, login.limit_by) == (False, (100, 900_000), "ip")
    assert table.match("GET", "/api/auth/me").auth
    event = table.match("POST", "/api/tenant/attendance/events")
    assert (event.auth, event.rate_limit, event.timeout_s) == (True, (1000, 900_000), 30.0)
    assert event.max_body_bytes == 1024 * 1024
    assert table.match("POST", "/api/tenant/students/import").max_body_bytes == 10 * 1024 * 1024
    assert table.match("GET", "/api/notifications").service == "notification-service"
    assert table.match("GET", "/api/analytics/attendance/daily").service == "analytics-service"
    with pytest.raises(NotFoundError):
        table.match("POST", "/api/files/uploads")


def test_what_was_found_is_found_again_and_what_was_refused_is_refused_again() -> None:
    table = _table("/a/** GET")
    for _ in range(2):
        assert table.find("GET", safe_path(b"/a/%E7%8F%AD")).service == "/a/**"
        with pytest.raises(MethodNotAllowedError):
            table.find("PUT", safe_path(b"/a/%E7%8F%AD"))


def test_a_table_remembers_only_so_much() -> None:
    table = _table("/a/** GET")
    for number in range(10_000):
        table.find("GET", safe_path(b"/a/%d" % number))
    assert len(table._found) <= 4096
    table.find("GET", safe_path(b"/a/" + b"x" * 8000))
    assert all(len(path) <= 256 for _, path in table._found)


def test_what_services_say_to_each_other_is_never_routed() -> None:
    table = RouteTable.load("routes: [{path: /**, service: tenant-service, methods: [GET], auth: false}]")
    assert table.match("GET", "/anything").service == "tenant-service"
    with pytest.raises(NotFoundError):
        table.match("GET", "/internal/tenant/recipients")
