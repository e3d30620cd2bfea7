"""A request's way through the gateway: what the service sees, what the client gets. CONTRACT §3-5."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.support.edge import ROUTES, Recorder, edge, run

from yuanlian.gateway.routes import RouteTable
from yuanlian.kit.errors import AuthenticationError, MethodNotAllowedError, ServiceUnavailableError
from yuanlian.kit.i18n import Text


def test_a_request_reaches_its_service_and_the_answer_comes_back() -> None:
    async def scenario() -> None:
        service = Recorder()
        async with edge(service) as e:
            answer = await e.get("/open/%E7%8F%AD?limit=5", method="POST", body=b"hello")
            assert (answer.status, answer.body) == (200, b"ok")
            (seen,) = service.seen
            assert (seen.method, seen.path, seen.query, seen.body) == (
                "POST",
                "/open/班",
                b"limit=5",
                b"hello",
            )
            assert seen.header("content-length") == "5"

    run(scenario)


@pytest.mark.parametrize(
    ("sent", "kept"),
    [("abc-1._Z", True), ("x" * 64, True), ("x" * 65, False), ("a b", False), ("a;b", False), ("", False)],
)
def test_a_request_id_is_kept_only_when_it_is_safe(sent: str, kept: bool) -> None:
    async def scenario() -> None:
        service = Recorder()
        async with edge(service) as e:
            answer = await e.get("/open/x", f"X-Request-ID: {sent}")
            request_id = answer.headers["x-request-id"]
            assert (request_id == sent) is kept
            assert service.seen[0].header("x-request-id") == request_id
            refused = await e.get("/none", f"X-Request-ID: {sent}")
            assert refused.json["meta"]["requestId"] == refused.headers["x-request-id"]

    run(scenario)


def test_a_token_becomes_a_signed_identity_that_the_service_can_read() -> None:
    async def scenario() -> None:
        service = Recorder()
        async with edge(service) as e:
            await e.get("/private/x", e.bearer("user_7", "a"))
            (seen,) = service.seen
            principal = e.identity.read(seen.header("x-identity") or "")
            assert (principal.user_id, principal.tenant_id) == ("user_7", "a")
            assert seen.header("x-tenant-id") == "a"
            assert seen.header("authorization") is None
            assert e.observer.requests == [("GET", "/private/**", 200, "a", "user_7")]

    run(scenario)


def test_identity_headers_from_outside_never_reach_a_service() -> None:
    forged = [
        "X-Identity: forged", "x_identity: forged", "X-User-ID: admin", "X-USER_ROLES: admin",
        "X-Roles: admin", "X-Tenant-ID: a", "X_Tenant_ID: b", "X-Permissions: *",
        "X-Forwarded-For: 8.8.8.8", "X-Real-IP: 8.8.8.8",
        "Forwarded: for=8.8.8.8", "X-Forwarded-User: admin", "Remote-User: admin", "X-Auth-User: admin",
        "X-Original-URL: /admin", "X-HTTP-Method-Override: DELETE", "Proxy: evil",
        "X.Identity: forged", "x-user~id: admin", "X-Tenant_ID: b", "x_forwarded_for: 8.8.8.8",
        "Client-Cert: :AAAA:", "X-SSL-Client-S-DN: CN=admin", "CF-Connecting-IP: 8.8.8.8",
        "True-Client-IP: 8.8.8.8", "X-Envoy-Original-Path: /admin", "Tracestate: a=b",
    ]  # fmt: skip

    async def scenario() -> None:
        service = Recorder()
        async with edge(service) as e:
            await e.get("/open/x", *forged, "Accept: text/plain")
            names = {name for name, _ in service.seen[0].headers}
            assert names == {
                b"host", b"accept", b"x-request-id", b"x-tenant-id",
                b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"forwarded", b"traceparent",
            }  # fmt: skip
            assert service.seen[0].header("forwarded") == "for=127.0.0.1;host=edge.test;proto=http"
            assert service.seen[0].header("x-forwarded-for") == "127.0.0.1"
            assert service.seen[0].header("x-tenant-id") == "a"

    run(scenario)


def test_hop_by_hop_headers_and_those_named_in_connection_stay_here() -> None:
    async def scenario() -> None:
        service = Recorder()
        async with edge(service) as e:
            request = (
                b"GET /open/x HTTP/1.1\r\nHost: a\r\nConnection: close, X-Secret, Host\r\nX-Secret: 1\r\n"
                b"Keep-Alive: 5\r\nTE: trailers\r\nX-Plain: 1\r\n\r\n"
            )
            await e.raw(request)
            names = {name for name, _ in service.seen[0].headers}
            assert names.isdisjoint({b"x-secret", b"keep-alive", b"te", b"connection"})
            assert {b"host", b"x-plain"} <= names

    run(scenario)


def test_forwarded_headers_are_believed_only_from_listed_proxies() -> None:
    said = (
        "X-Forwarded-For: 192.0.2.66, 203.0.113.9",
        "X-Forwarded-For: 10.0.0.1",
        "X-Forwarded-Proto: https",
        "X-Forwarded-Host: k.test",
    )

    async def scenario() -> None:
        service = Recorder()
        async with edge(service, trusted_proxies=("127.0.0.0/8", "10.0.0.0/8")) as e:
            await e.get("/open/x", *said)
            (seen,) = service.seen
            assert seen.header("x-forwarded-for") == "203.0.113.9, 10.0.0.1, 127.0.0.1"
            assert seen.header("forwarded") == (
                "for=203.0.113.9;host=k.test;proto=https, for=10.0.0.1, for=127.0.0.1"
            )
            assert seen.header("x-forwarded-proto") == "https"
            assert seen.header("x-forwarded-host") == "k.test"

    run(scenario)


def test_every_refusal_is_an_envelope_in_the_language_of_the_caller() -> None:
    unsafe = Text("请求路径不合法", "The request path is not valid")
    websocket = Text("此地址需要 WebSocket 连接", "This address speaks WebSocket")
    cases: list[tuple[str, str, int, str, Text]] = [
        ("GET", "/none", 404, "NOT_FOUND", Text("接口不存在", "No such endpoint")),
        ("DELETE", "/open/x", 405, "METHOD_NOT_ALLOWED", MethodNotAllowedError.text),
        ("POST", "/docs", 405, "METHOD_NOT_ALLOWED", MethodNotAllowedError.text),
        ("GET", "/private/x", 401, "AUTHENTICATION_ERROR", AuthenticationError.text),
        ("GET", "/nowhere", 503, "SERVICE_UNAVAILABLE", ServiceUnavailableError.text),
        ("GET", "/open/../x", 400, "VALIDATION_ERROR", unsafe),
        ("GET", "/ws", 400, "VALIDATION_ERROR", websocket),
    ]  # fmt: skip

    async def scenario() -> None:
        async with edge() as e:
            for method, path, status, code, text in cases:
                for language, message in (("zh-CN,zh;q=0.9", text.zh), ("en", text.en)):
                    answer = await e.get(path, f"Accept-Language: {language}", method=method)
                    assert answer.status == status
                    body = answer.json
                    assert (body["success"], body["code"], body["message"]) == (False, status, message)
                    assert body["error"]["code"] == code
                    assert body["meta"]["requestId"] == answer.headers["x-request-id"]

    run(scenario)


def test_a_method_that_the_path_does_not_know_is_told_which_it_does() -> None:
    async def scenario() -> None:
        async with edge() as e:
            assert (await e.get("/open/x", method="DELETE")).headers["allow"] == "GET, HEAD, POST, PUT"

    run(scenario)


async def _fails(scope: Any, receive: Any, send: Any) -> None:
    raise RuntimeError("a bug in the service")


async def _says_nothing(scope: Any, receive: Any, send: Any) -> None:
    return


async def _breaks_a_header(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x", b"1\r\nset-cookie: evil")]})


async def _sleeps(scope: Any, receive: Any, send: Any) -> None:
    await asyncio.sleep(60)


@pytest.mark.parametrize(
    ("app", "path", "status", "message"),
    [
        (_fails, "/open/x", 502, "上游服务异常"),
        (_says_nothing, "/open/x", 502, "上游服务异常"),
        (_breaks_a_header, "/open/x", 502, "上游服务异常"),
        (_sleeps, "/slow", 504, "上游服务超时"),
    ],
)
def test_an_upstream_that_fails_becomes_an_envelope_without_its_details(
    app: Any, path: str, status: int, message: str
) -> None:
    async def scenario() -> None:
        async with edge(app) as e:
            answer = await e.get(path)
            assert (answer.status, answer.json["message"]) == (status, message)
            assert b"bug" not in answer.body
            assert b"evil" not in answer.body

    run(scenario)


def test_a_token_that_was_revoked_or_has_expired_no_longer_counts() -> None:
    async def scenario() -> None:
        async with edge() as e:
            header = e.bearer("user_1")
            assert (await e.get("/private/x", header)).status == 200
            await e.revocations.revoke_session("session_user_1", 2**40)
            refused = await e.get("/private/x", header)
            assert (refused.status, refused.headers["www-authenticate"]) == (401, "Bearer")
            assert (await e.get("/private/x", e.bearer("user_2", exp=1))).status == 401
            assert (await e.get("/private/x", "Authorization: Basic dTpw")).status == 401

    run(scenario)


def test_a_tenant_header_can_only_repeat_the_token() -> None:
    async def scenario() -> None:
        async with edge() as e:
            header = e.bearer("user_1", "a")
            assert (await e.get("/private/x", header, "X-Tenant-ID: a")).status == 200
            for other in ("b", "no_such", ""):
                refused = await e.get("/private/x", header, f"X-Tenant-ID: {other}")
                assert (refused.status, refused.json["error"]["code"]) == (403, "AUTHORIZATION_ERROR")
            e.tenants.set_status("a", "suspended")
            assert (await e.get("/private/x", header)).status == 403

    run(scenario)


def test_without_a_token_a_tenant_may_be_named_but_must_exist() -> None:
    async def scenario() -> None:
        service = Recorder()
        async with edge(service) as e:
            unknown = await e.get("/open/x", "X-Tenant-ID: no_such")
            assert (unknown.status, unknown.json["message"]) == (404, "租户不存在")
            assert (await e.get("/open/x", "X-Tenant-ID: b")).status == 200
            assert service.seen[-1].header("x-tenant-id") == "b"
            await e.get("/open/x")
            assert service.seen[-1].header("x-tenant-id") is None

    run(scenario)


def test_a_limited_route_says_what_is_left_and_when_to_come_back() -> None:
    async def scenario() -> None:
        async with edge() as e:
            answers = [await e.get("/limited") for _ in range(3)]
            assert [a.status for a in answers] == [200, 200, 429]
            assert [a.headers["ratelimit-remaining"] for a in answers] == ["1", "0", "0"]
            assert {a.headers["ratelimit-limit"] for a in answers} == {"2"}
            assert all(int(a.headers["ratelimit-reset"]) > 0 for a in answers)
            assert 0 < int(answers[2].headers["retry-after"]) <= 30
            assert answers[2].json["message"] == "请求过于频繁"
            assert "ratelimit-limit" not in (await e.get("/open/x")).headers

    run(scenario)


def test_callers_are_counted_one_by_one() -> None:
    async def scenario() -> None:
        async with edge() as e:
            statuses = [(await e.get("/mine", e.bearer(user))).status for user in ("u1", "u1", "u2")]
            assert statuses == [200, 429, 200]

    run(scenario)


def test_a_new_table_takes_over() -> None:
    async def scenario() -> None:
        async with edge() as e:
            assert (await e.get("/later")).status == 404
            e.gateway.replace_routes(
                RouteTable.load(ROUTES + "  - {path: /later, service: svc, methods: [GET], auth: false}")
            )
            assert (await e.get("/later")).status == 200

    run(scenario)


def test_every_answer_carries_the_security_headers() -> None:
    async def scenario() -> None:
        async with edge() as e:
            for path in ("/open/x", "/none", "/docs", "/healthz"):
                headers = (await e.get(path)).headers
                assert headers["x-content-type-options"] == "nosniff"
                assert headers["x-frame-options"] == "DENY"

    run(scenario)


def test_probes_tell_ok_or_not_and_nothing_more() -> None:
    async def scenario() -> None:
        async with edge() as e:
            assert (await e.get("/healthz")).body == b'{"status":"ok"}'
            assert (await e.get("/readyz")).body == b'{"status":"ok"}'
            e.ready[0] = False
            unready = await e.get("/readyz")
            assert (unready.status, unready.body) == (503, b'{"status":"unavailable"}')
            home = await e.get("/")
            assert (home.status, home.headers["location"]) == (302, "/docs")
            assert (await e.get("/api/openapi.json")).json["openapi"] == "3.1.0"

    run(scenario)


def test_route_page_and_service_see_the_same_spelling_of_a_path() -> None:
    async def scenario() -> None:
        service = Recorder()
        async with edge(service) as e:
            for spelling in ("/%6Fpen/%e7%8f%ad", "/open/%E7%8F%ad"):
                assert (await e.get(spelling)).status == 200
            assert [(seen.path, seen.raw_path) for seen in service.seen] == [
                ("/open/班", b"/open/%E7%8F%AD")
            ] * 2
            assert (await e.get("/%68ealthz")).body == b'{"status":"ok"}'
            assert (await e.get("/private/%78")).status == 401
            assert [route for _, route, *_ in e.observer.requests] == [
                "/open/**", "/open/**", "/healthz", "/private/**",
            ]  # fmt: skip

    run(scenario)


def test_a_trace_goes_through_to_the_service_and_into_the_log() -> None:
    sent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

    async def scenario() -> None:
        service = Recorder()
        async with edge(service) as e:
            await e.get("/open/x", f"traceparent: {sent}", "tracestate: a=1", "tracestate: b=2")
            seen = service.seen[0]
            version, trace_id, span, flags = (seen.header("traceparent") or "").split("-")
            assert (version, trace_id, flags) == ("00", sent.split("-")[1], "00")
            assert span != sent.split("-")[2]
            assert seen.header("tracestate") == "a=1,b=2"
            await e.get("/open/x", "traceparent: 00-zz", "tracestate: a=1")
            new = (service.seen[1].header("traceparent") or "").split("-")[1]
            assert len(new) == 32
            assert service.seen[1].header("tracestate") is None
            await e.get("/private/x", f"traceparent: {sent}")
            await e.get("/none", f"traceparent: {sent}")
            assert [(line.status, line.trace_id) for line in e.observer.lines] == [
                (200, trace_id),
                (200, new),
                (401, trace_id),
                (404, ""),
            ]

    run(scenario)


def test_a_whole_network_of_addresses_is_one_client_to_the_limit() -> None:
    async def scenario() -> None:
        async with edge(trusted_proxies=("127.0.0.1",)) as e:
            clients = ("2001:db8::1", "2001:db8::2", "2001:db8::3", "2001:db8:0:1::1", "192.0.2.1")
            answers = [await e.get("/limited", f"X-Forwarded-For: {client}") for client in clients]
            assert [answer.status for answer in answers] == [200, 200, 429, 200, 200]

    run(scenario)


@pytest.mark.parametrize("path", ["/private/x", "/mine"])
def test_an_address_that_sends_too_many_tokens_that_are_none_is_told_when_to_come_back(path: str) -> None:
    async def scenario() -> None:
        async with edge(bad_tokens_per_minute=3) as e:
            known = e.bearer("user_2")
            assert (await e.get("/private/x", known)).status == 200
            statuses = [(await e.get(path, f"Authorization: Bearer x.{n}.z")).status for n in range(4)]
            assert statuses == [401, 401, 401, 429]
            refused = await e.get(path, "Authorization: Bearer x.y.z")
            assert refused.json["error"]["code"] == "RATE_LIMITED"
            names = ("retry-after", "ratelimit-limit", "ratelimit-remaining")
            assert [refused.headers[name] for name in names] == ["20", "3", "0"]
            body = await e.get("/private/x", "Authorization: Bearer x.y.z", method="POST", body=b"x" * 5000)
            assert (body.status, body.headers["ratelimit-limit"]) == (429, "3")
            assert (await e.get("/private/x", known)).status == 200
            assert (await e.get("/open/x")).status == 200

    run(scenario)
