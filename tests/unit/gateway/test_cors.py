"""Which sites' scripts may use a route, and the headers that a route puts on its answers."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.edge import Answer, Recorder, edge, run

from yuanlian.gateway.routes import RouteTable
from yuanlian.gateway.routes_file import RoutesError

ROUTES = """
routes:
  - path: /app/**
    service: svc
    methods: [GET, POST]
    auth: true
    maxBodyBytes: 10000
    cors: {origins: [https://app.test, 'http://localhost:5173'], credentials: true, maxAgeS: 60}
  - path: /app/options
    service: svc
    methods: [OPTIONS]
    auth: false
  - path: /anybody
    service: svc
    methods: [GET]
    auth: false
    rateLimit: {max: 1, windowMs: 60000}
    cors: {origins: ['*'], methods: [GET], headers: [X-One]}
  - {path: /closed, service: svc, methods: [GET], auth: false}
  - path: /framed
    service: svc
    methods: [GET]
    auth: false
    headers:
      X-Frame-Options: SAMEORIGIN
      Content-Security-Policy: "default-src 'none'"
      Referrer-Policy: null
"""
PREFLIGHT = ("Access-Control-Request-Method: POST", "Access-Control-Request-Headers: authorization")
LISTED = "https://app.test"


def _cors(answer: Answer) -> dict[str, str]:
    return {name: value for name, value in answer.headers.items() if name.startswith("access-control-")}


def test_a_preflight_is_answered_here_without_a_token() -> None:
    async def scenario() -> None:
        service = Recorder()
        async with edge(service, routes=ROUTES) as e:
            answer = await e.get("/app/x", f"Origin: {LISTED}", *PREFLIGHT, method="OPTIONS")
            assert (answer.status, answer.body, service.seen) == (204, b"", [])
            assert answer.headers["vary"] == "Origin"
            said = _cors(answer)
            assert said.pop("access-control-expose-headers")
            assert said == {
                "access-control-allow-origin": LISTED,
                "access-control-allow-credentials": "true",
                "access-control-allow-methods": "GET, POST",
                "access-control-allow-headers": (
                    "Authorization, Content-Type, Idempotency-Key, X-Request-ID, X-Tenant-ID"
                ),
                "access-control-max-age": "60",
            }
            assert e.observer.requests == [("OPTIONS", "/app/**", 204, "", "")]

    run(scenario)


@pytest.mark.parametrize(
    "origin",
    ["https://evil.test", "https://app.test.evil.test", "http://app.test", "null", "HTTPS://APP.TEST"],
)
def test_another_site_hears_nothing(origin: str) -> None:
    async def scenario() -> None:
        async with edge(routes=ROUTES) as e:
            for answer in (
                await e.get("/app/x", f"Origin: {origin}", *PREFLIGHT, method="OPTIONS"),
                await e.get("/app/x", f"Origin: {origin}", e.bearer()),
            ):
                assert answer.status in (200, 204)
                assert _cors(answer) == {}
                assert answer.headers["vary"] == "Origin"

    run(scenario)


async def _opens_itself(scope: Any, receive: Any, send: Any) -> None:
    headers = [(b"access-control-allow-origin", b"*"), (b"x-frame-options", b"ALLOWALL"), (b"x-a", b"1")]
    headers.append((b"referrer-policy", b"origin"))
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"ok"})


def test_every_answer_can_be_read_by_a_listed_site_refusals_included() -> None:
    async def scenario() -> None:
        async with edge(_opens_itself, routes=ROUTES) as e:
            origin = f"Origin: {LISTED}"
            answers = [
                await e.get("/app/x", origin, e.bearer()),
                await e.get("/app/x", origin),
                await e.get("/app/x", origin, method="POST", body=b"x" * 5000),
                await e.get("/app/x", origin, e.bearer(), method="POST", body=b"x" * 20000),
            ]
            assert [answer.status for answer in answers] == [200, 401, 401, 413]
            for answer in answers:
                assert answer.headers["access-control-allow-origin"] == LISTED
                assert answer.headers["access-control-allow-credentials"] == "true"
                assert answer.headers["vary"] == "Origin"
            assert "access-control-allow-origin" not in (await e.get("/app/x", e.bearer())).headers

    run(scenario)


def test_a_route_for_everybody_never_takes_credentials() -> None:
    async def scenario() -> None:
        async with edge(routes=ROUTES) as e:
            asked = await e.get(
                "/anybody", "Origin: https://x.test", PREFLIGHT[0][:-4] + "GET", method="OPTIONS"
            )
            assert asked.headers["access-control-allow-headers"] == "X-One"
            answers = [await e.get("/anybody", "Origin: https://x.test") for _ in range(2)]
            assert [answer.status for answer in answers] == [200, 429]
            for answer in (asked, *answers):
                assert answer.headers["access-control-allow-origin"] == "*"
                assert "access-control-allow-credentials" not in answer.headers

    run(scenario)


def test_what_is_no_preflight_goes_the_usual_way() -> None:
    async def scenario() -> None:
        service = Recorder()
        async with edge(service, routes=ROUTES) as e:
            for path, headers, status in (
                ("/app/x", [], 405),
                ("/app/x", [f"Origin: {LISTED}"], 405),
                ("/app/x", ["Access-Control-Request-Method: GET"], 405),
                ("/app/x", [f"Origin: {LISTED}", "Access-Control-Request-Method: PATCH"], 405),
                ("/closed", [f"Origin: {LISTED}", "Access-Control-Request-Method: GET"], 405),
                ("/none", [f"Origin: {LISTED}", "Access-Control-Request-Method: GET"], 404),
            ):
                answer = await e.get(path, *headers, method="OPTIONS")
                assert answer.status == status
                assert _cors(answer) == {}
            assert (await e.get("/app/options", f"Origin: {LISTED}", method="OPTIONS")).status == 200
            assert [seen.method for seen in service.seen] == ["OPTIONS"]

    run(scenario)


def test_a_route_says_its_security_headers_in_place_of_the_default_and_the_services() -> None:
    async def scenario() -> None:
        async with edge(_opens_itself, routes=ROUTES) as e:
            headers = (await e.get("/framed")).headers
            assert headers["x-frame-options"] == "SAMEORIGIN"
            assert headers["content-security-policy"] == "default-src 'none'"
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["referrer-policy"] == "origin"
            usual = (await e.get("/closed")).headers
            assert usual["x-frame-options"] == "DENY"
            assert usual["referrer-policy"] == "no-referrer"
            assert usual["access-control-allow-origin"] == "*"

    run(scenario)


async def _limits_itself(scope: Any, receive: Any, send: Any) -> None:
    headers = [(b"ratelimit-limit", b"7"), (b"retry-after", b"3")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"ok"})


def test_a_route_with_a_limit_says_its_own_in_place_of_the_services() -> None:
    async def scenario() -> None:
        async with edge(_limits_itself, routes=ROUTES) as e:
            headers = (await e.get("/anybody")).headers
            assert (headers["ratelimit-limit"], headers["retry-after"]) == ("1", "3")
            assert (await e.get("/closed")).headers["ratelimit-limit"] == "7"

    run(scenario)


@pytest.mark.parametrize(
    ("written", "line", "reason"),
    [
        ("cors: {origins: ['*'], credentials: true}", 5, "every site"),
        ("cors: {origins: ['*', 'https://a.test']}", 5, "every site"),
        ("cors: {origins: []}", 5, "length"),
        ("cors: {origins: [https://a.test/]}", 5, "nothing behind it"),
        ("cors: {origins: [https://A.test]}", 5, "lower case"),
        ("cors: {origins: [a.test]}", 5, "is no origin"),
        ("cors: {origins: ['null']}", 5, "is no origin"),
        ("cors: {origins: ['https://*.a.test']}", 5, "is no origin"),
        ("cors: {origins: [https://a.test:443]}", 5, "default port"),
        ("cors: {origins: [https://a.test], headers: ['*']}", 5, "no header name"),
        ("cors: {origins: [https://a.test], methods: [FETCH]}", 5, "FETCH"),
        ("cors: {origins: [https://a.test], maxAge: 5}", 5, "maxAge"),
        ("cors:\n      origins:\n        - https://a.test\n      credentials: 1", 8, "bool"),
        ("headers:\n      X-A: ok\n      Set-Cookie: a=b", 7, "not for a route"),
        ("headers: {X-Request-ID: a}", 5, "not for a route"),
        ("headers: {Transfer-Encoding: chunked}", 5, "not for a route"),
        ("headers: {RateLimit-Limit: '1'}", 5, "not for a route"),
        ("headers: {Access-Control-Allow-Origin: '*'}", 5, "`cors`"),
        ("headers: {'X A': a}", 5, "no header name"),
        ('headers: {X-A: "a\\r\\nset-cookie: b=c"}', 5, "cannot be sent"),
        ("headers: {X-A: ''}", 5, "cannot be sent"),
        ("headers: {X-A: 班}", 5, "cannot be sent"),
    ],
)
def test_what_would_open_too_much_or_do_nothing_is_refused(written: str, line: int, reason: str) -> None:
    text = f"routes:\n  - path: /a\n    service: s\n    methods: [GET]\n    {written}\n"
    with pytest.raises(RoutesError) as refused:
        RouteTable.load(text)
    assert reason in refused.value.reason
    assert refused.value.line == line
