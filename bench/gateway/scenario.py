"""What is asked of every contender, and the token it is asked with."""

from __future__ import annotations

import base64
import json
import time
from dataclasses import dataclass

from yuanlian.kit.identity.principal import Principal
from yuanlian.kit.identity.tokens import LIFETIME_S, key_id
from yuanlian.services.auth.grants import combine
from yuanlian.services.auth.roles import built_in
from yuanlian.services.auth.tokens import TokenIssuer

SECRET = "bench-only-secret-of-more-than-32-bytes"
TENANT_ID = "tenant_sunshine"
USER_ID = "user_bench"

SMALL = (
    '{"success":true,"code":200,"message":"操作成功","data":{"id":"student_sun_001","name":"张三",'
    '"classId":"class_sun_01","gender":"female","enrolment":"active","guardians":[{"name":"李四",'
    '"relation":"母亲"}]},"meta":{"timestamp":1701234567890,"requestId":"req_0192f3a1c7d8e4f6","duration":15}}'
)
"""What the upstream answers: 300 bytes."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """``body``: bytes that are sent; 0 makes it a GET."""

    key: str
    title: str
    path: str
    connections: int = 32
    body: int = 0

    @property
    def method(self) -> str:
        return "POST" if self.body else "GET"


GET = Scenario("get", "GET, 300 B", "/api/tenant/students/1")
LARGE = Scenario("large", "GET, 100 KiB", "/api/tenant/large")
POST = Scenario("post", "POST, 10 KiB", "/api/tenant/students", body=10 * 1024)
CROWD = Scenario("crowd", "GET, 1,000 connections", "/api/tenant/students/1", connections=1_000)
SCENARIOS = (GET, LARGE, POST, CROWD)


def large_body() -> bytes:
    """100 KiB of JSON."""
    items = [{"id": f"student_{n:04d}", "name": "张三", "classId": "class_7"} for n in range(2_000)]
    text = json.dumps({"data": items}, ensure_ascii=False)
    return text.encode()[: 100 * 1024].ljust(100 * 1024)


def post_body(size: int) -> str:
    """A JSON body of exactly ``size`` ASCII bytes."""
    frame = '{"data":{"note":""}}'
    return frame.replace('""', '"' + "x" * (size - len(frame)) + '"')


def access_token() -> str:
    """Of a teacher, as the auth service issues it."""
    kid = key_id(SECRET.encode())
    grants = combine(built_in(TENANT_ID)["teacher"].permissions)
    principal = Principal(
        user_id=USER_ID,
        tenant_id=TENANT_ID,
        roles=("teacher",),
        permissions=grants.permissions,
        conditions=grants.conditions,
        session_id="session_bench",
        name="教师",
        expires_at=int(time.time()) + LIFETIME_S,
    )
    return TokenIssuer({kid: SECRET.encode()}, kid).issue(principal)


def key_set() -> str:
    """The token's key as a JSON Web Key Set (RFC 7517)."""
    key = base64.urlsafe_b64encode(SECRET.encode()).rstrip(b"=").decode()
    kid = key_id(SECRET.encode())
    return json.dumps({"keys": [{"kty": "oct", "alg": "HS256", "kid": kid, "k": key}]})


def request_bytes(scenario: Scenario, port: int, token: str) -> bytes:
    head = (
        f"{scenario.method} {scenario.path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
        f"Authorization: Bearer {token}\r\n"
    )
    if not scenario.body:
        return f"{head}\r\n".encode()
    length = f"Content-Type: application/json\r\nContent-Length: {scenario.body}\r\n\r\n"
    return (head + length + post_body(scenario.body)).encode()
