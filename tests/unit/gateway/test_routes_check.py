"""What an operator is told about a table, and about one request. CONTRACT §4."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yuanlian.gateway.routes import DEFAULT_ROUTES, Route, RouteTable
from yuanlian.gateway.routes_check import OWN_PATHS, Finding, check
from yuanlian.gateway.routes_explain import explain, fits, specificity
from yuanlian.gateway.routes_file import RoutesError, parse
from yuanlian.kit.errors import AppError


def _table(*routes: str) -> str:
    """``METHODS PATH [more fields]``, one per line, the first on line 2."""
    lines = []
    for route in routes:
        methods, path, *more = route.split(" ", 2)
        fields = [f"path: '{path}'", "service: s", f"methods: [{methods}]", "auth: false", *more]
        lines.append(f"  - {{{', '.join(fields)}}}")
    return "routes:\n" + "\n".join(lines) + "\n"


def _found(*routes: str) -> list[tuple[int, str]]:
    return [(found.line, found.text) for found in check(_table(*routes)) if found.severity == "error"]


def test_the_packaged_table_is_clean() -> None:
    services = {"auth-service", "tenant-service", "notification-service", "analytics-service"}
    found = check(DEFAULT_ROUTES.read_text("utf-8"), services)
    assert {finding.severity for finding in found} <= {"note"}


def test_every_refusal_is_told_not_only_the_first() -> None:
    found = check(
        "routes:\n"
        "  - path: /a\n"
        "    service: s\n"
        "    methods: [GTE]\n"
        "  - {path: b, service: s, methods: [GET]}\n"
        "  - {path: /c, service: s, methods: [GET]}\n"
        "  - {path: /c/, service: s, methods: [GET]}\n"
    )
    assert [(finding.line, finding.severity) for finding in found] == [
        (4, "error"),
        (5, "error"),
        (7, "error"),
    ]
    assert "GTE" in found[0].text
    assert "already on line 6" in found[2].text


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("routes: [", 1, "stream end"),
        ("routes: []\nroutes: []", 2, "`routes` is given twice"),
        (
            "routes:\n  - path: /a\n    service: s\n    path: /b\n    methods: [GET]",
            4,
            "`path` is given twice",
        ),
        ("routes:\n  - {path: /a, service: s, methods: [GET], rateLimit: {max: 1, max: 2}}", 2, "twice"),
        ("routes:\n  - &a {path: /a, service: s, methods: [GET], headers: *a}", 2, "Expected `str | null`"),
        ("routes: &a [*a]", 1, "Expected `object`"),
        ("routes:\n  - &a {? [b] : *a}", 2, "unhashable key"),
    ],
)
def test_what_is_no_table_or_says_a_thing_twice_is_an_error(text: str, line: int, reason: str) -> None:
    (found,) = check(text)
    assert (found.line, found.severity) == (line, "error")
    assert reason in found.text


def test_aliases_of_aliases_cost_nothing() -> None:
    levels = ["a0: &a0 {b: c}"] + [f"a{n}: &a{n} {{b: *a{n - 1}, c: *a{n - 1}}}" for n in range(1, 60)]
    (found,) = check("routes:\n  - " + "\n    ".join(levels))
    assert "unknown field" in found.text


@given(st.text("routes:- {}[]&*a?!|'\"\n,path/servcmhdGET", max_size=80))
def test_no_text_makes_it_stumble(text: str) -> None:
    check(text)
    check(f"routes:\n  - {text}")


@pytest.mark.parametrize("path", sorted(OWN_PATHS))
def test_the_gateways_own_paths_are_not_for_routes(path: str) -> None:
    ((line, text),) = _found(f"GET {path}")
    assert line == 2
    assert "the gateway answers" in text


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/internal/**", "/internal"),
        ("/internal", "/internal"),
        ("/a//b", "refuses such paths"),
        ("/a/../b", "refuses such paths"),
        ("/a/./*", "refuses such paths"),
        ("/a\\b", "refuses such paths"),
        ("/a/%E7%8F%AD", "compared decoded"),
    ],
)
def test_a_path_that_no_request_can_have_is_told(path: str, reason: str) -> None:
    ((_, text),) = _found(f"GET {path}", "GET /fine/班/a;b")
    assert text.startswith("unreachable: ")
    assert reason in text


def test_a_route_whose_every_path_is_taken_is_told_with_who_takes_it() -> None:
    assert _found("GET /a", "GET /a/*/**", "GET,POST /a/**") == [
        (4, "unreachable: every such path is left to `/a` on line 2 and `/a/*/**` on line 3")
    ]
    assert _found("GET /a", "GET /a/*/**", "GET /a/*", "GET /b/**") == []
    assert _found("GET /*", "GET /**") == []  # `/x/y` is left for it
    assert _found("GET /a", "POST /a", "GET /a/**") == []


def test_a_method_that_another_route_of_the_path_has_is_told() -> None:
    assert _found("GET,POST /a", "HEAD /a", "PUT,HEAD /a/b", "GET /a/b") == [
        (3, "unreachable: every such path is left to `/a` on line 2"),
        (5, "unreachable with HEAD: every such path is left to `/a/b` on line 4"),
    ]


def test_it_is_noted_when_a_narrow_route_refuses_what_a_wide_one_would_take() -> None:
    found = check(_table("GET,POST /a/**", "POST /a/b", "PUT /a/b", "GET /c"))
    assert found == [
        Finding(3, "note", "answers 405 to GET, which `/a/**` on line 2 would take"),
    ]


def test_an_unknown_service_is_a_warning() -> None:
    assert [f.severity for f in check(_table("GET /a"), {"tenant-service"})] == ["warning"]
    assert check(_table("GET /a"), {"s"}) == check(_table("GET /a")) == []


@pytest.mark.parametrize(
    ("route", "severity", "reason"),
    [
        ("GET /a cors: {origins: ['http://a.test'], credentials: true}", "warning", "use https"),
        ("GET /a cors: {origins: ['https://a.test'], methods: [GET, PUT]}", "warning", "allows PUT"),
        (
            "GET /a auth: true, cors: {origins: ['https://a.test'], headers: [X-A]}",
            "warning",
            "Authorization",
        ),
        ("POST /a cors: {origins: ['https://a.test'], headers: [X-A]}", "warning", "Content-Type"),
        ("POST /a upgrade: [websocket]", "warning", "only a GET"),
        ("GET,OPTIONS /a cors: {origins: ['https://a.test']}", "note", "preflights"),
        ("GET /a cors: {origins: ['*'], credentials: true}", "error", "every site"),
    ],
)
def test_what_a_client_would_stumble_over_is_told(route: str, severity: str, reason: str) -> None:
    text = _table(route).replace("auth: false, auth: true", "auth: true")
    (found,) = check(text)
    assert (found.line, found.severity) == (2, severity)
    assert reason in found.text


def test_a_clean_rule_for_other_sites_has_no_remark() -> None:
    assert check(_table("GET,POST /a cors: {origins: ['https://a.test', 'http://localhost:5173']}")) == []


# --- which route wins ------------------------------------------------------------------------------

WIDE_AND_NARROW = _table("GET,POST /**", "GET /a/**", "GET /a/*/c", "GET /a/b/c", "POST /a/b/c", "GET /z")


def _candidates(method: str, path: str) -> list[tuple[int, bool, str]]:
    return [(c.line, c.wins, c.why) for c in explain(WIDE_AND_NARROW, method, path).candidates]


def test_the_winner_and_why_each_other_lost() -> None:
    explained = explain(WIDE_AND_NARROW, "GET", "/a/%62/c?x=1")
    assert (explained.path, explained.status, explained.others) == ("/a/b/c", 200, 1)
    assert _candidates("GET", "/a/b/c") == [
        (5, True, "the most specific path"),
        (6, False, "the same path, for POST"),
        (4, False, "wider: `*` where `/a/b/c` says `b`"),
        (3, False, "wider: `**` where `/a/b/c` says `b`"),
        (2, False, "wider: `**` where `/a/b/c` says `a`"),
    ]


def test_a_method_that_only_a_wider_route_takes_is_refused_and_the_explanation_says_so() -> None:
    explained = explain(WIDE_AND_NARROW, "PUT", "/a/b/c")
    assert explained.status == 405
    assert "GET, HEAD, POST" in explained.outcome
    assert not any(candidate.wins for candidate in explained.candidates)
    assert explained.candidates[0].why == "the same path, for GET, HEAD"


@pytest.mark.parametrize(
    ("path", "status", "outcome"),
    [
        ("/docs", 200, "itself"),
        ("/%64ocs", 200, "itself"),
        ("/ws", 200, "WebSocket"),
        ("/internal/x", 404, "/internal"),
        ("/a/../b", 400, "several ways"),
        ("/a//b", 400, "several ways"),
        ("a", 400, "several ways"),
    ],
)
def test_what_comes_before_any_table(path: str, status: int, outcome: str) -> None:
    explained = explain(WIDE_AND_NARROW, "GET", path)
    assert explained.status == status
    assert outcome in explained.outcome
    assert not any(candidate.wins for candidate in explained.candidates)


def test_a_path_that_nothing_fits() -> None:
    explained = explain(_table("GET /a"), "GET", "/班")
    assert (explained.path, explained.status, explained.candidates, explained.others) == ("/班", 404, [], 1)


def test_a_bad_table_explains_nothing() -> None:
    with pytest.raises(RoutesError):
        explain(_table("GTE /a"), "GET", "/a")


# --- against the router itself ---------------------------------------------------------------------

SEGMENT = st.sampled_from(["a", "b", "*"])
PATTERNS = st.tuples(st.lists(SEGMENT, max_size=3), st.sampled_from(["", "/**"])).map(
    lambda parts: "".join(f"/{segment}" for segment in parts[0]) + parts[1] or "/"
)
METHODS = st.sampled_from(["GET", "POST", "GET,PUT"])
ROUTES = st.lists(st.tuples(METHODS, PATTERNS).map(" ".join), min_size=1, max_size=8)
ASKED = st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=4).map(
    lambda parts: "/" + "/".join(parts)
)


def _usable(routes: list[str]) -> str | None:
    text = _table(*routes)
    try:
        parse(text)
    except RoutesError:
        return None
    return text


def _asked(table: RouteTable, method: str, path: str) -> Route | str:
    """The route, or the code of the refusal."""
    try:
        return table.match(method, path)
    except AppError as error:
        return error.code


@given(routes=ROUTES, method=st.sampled_from(["GET", "POST", "PUT"]), path=ASKED)
def test_the_explanation_is_what_the_router_does(routes: list[str], method: str, path: str) -> None:
    text = _usable(routes)
    if text is None:
        return
    explained = explain(text, method, path)
    wins = [candidate.route.path for candidate in explained.candidates if candidate.wins]
    taken = _asked(RouteTable.load(text), method, path)
    if isinstance(taken, Route):
        assert (wins, explained.status) == ([taken.path], 200)
    else:
        assert wins == []
        assert explained.status == {"NOT_FOUND": 404, "METHOD_NOT_ALLOWED": 405}[taken]


@given(routes=ROUTES, path=ASKED)
def test_the_router_takes_the_most_specific_pattern_that_fits(routes: list[str], path: str) -> None:
    text = _usable(routes)
    if text is None:
        return
    table = RouteTable.load(text)
    fitting = [route.path for route in table.routes if fits(route.path, path)]
    taken = _asked(table, "GET", path)
    if isinstance(taken, Route):
        assert taken.path == min(fitting, key=lambda pattern: specificity(pattern, path))
    else:
        assert (taken == "NOT_FOUND") == (not fitting)


@given(routes=ROUTES, path=ASKED)
def test_what_takes_a_request_is_never_called_unreachable(routes: list[str], path: str) -> None:
    text = _usable(routes)
    if text is None:
        return
    table = RouteTable.load(text)
    dead = {found.line for found in check(text) if found.text.startswith("unreachable: ")}
    for method in ("GET", "POST", "PUT", "HEAD"):
        taken = _asked(table, method, path)
        assert isinstance(taken, str) or table.routes.index(taken) + 2 not in dead
