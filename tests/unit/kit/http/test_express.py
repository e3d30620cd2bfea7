"""The express lane cannot be told from Litestar, except by a clock.

Every request here goes to the same function twice: once declared ``express``, once not.
"""

from __future__ import annotations

import asyncio
import json
from functools import cache
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st
from litestar import Response, post
from litestar.connection import ASGIConnection
from litestar.exceptions import NotAuthorizedException
from litestar.handlers import BaseRouteHandler
from litestar.params import FromPath, FromQuery, HeaderParameter, JSONBody
from msgspec import Meta

from yuanlian.kit.clock import ManualClock
from yuanlian.kit.context import known
from yuanlian.kit.envelope import Body, Envelope
from yuanlian.kit.errors import ConflictError, RateLimitedError
from yuanlian.kit.http.app import ServiceApp, reply, require, service_app
from yuanlian.kit.http.express import LONGEST
from yuanlian.kit.identity.internal import InternalIdentity
from yuanlian.kit.identity.principal import Principal
from yuanlian.kit.tenancy.scope import current_tenant, tenant_if_one

PATH = "/api/things"
IDENTITY = InternalIdentity(bytes(32), ManualClock(1_790_000_000_000))  # no token of this module expires
Key = Annotated[str | None, HeaderParameter(name="Idempotency-Key", pattern="^[a-z]{1,8}$")]


class Part(msgspec.Struct, forbid_unknown_fields=True):
    name: Annotated[str, Meta(min_length=1, max_length=10)]
    sizes: list[int] = []


class Thing(msgspec.Struct, forbid_unknown_fields=True):
    id: Annotated[str, Meta(pattern="^[a-z0-9]{1,8}$")]
    kind: Literal["good", "conflict", "limited", "bug", "wrong", "deep", "framework"] = "good"
    count: Annotated[int, Meta(ge=0)] | None = None
    heat: Annotated[float, Meta(ge=34, le=43)] | None = None
    note: str | None = None
    sure: bool = True
    part: Part | None = None
    labels: dict[str, int] = {}
    pair: tuple[int, str] | None = None


class Asked(NamedTuple):
    """What the function was called with, and in whose name."""

    thing: Thing
    meta: tuple[int | None, str | None] | None
    key: str | None
    tenant: str


class Lanes:
    """The two applications around one function."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []

        async def make(data: JSONBody[Body[Thing]], key: Key = None) -> Response[Envelope[Thing]]:
            principal = require("thing.write")
            meta = (data.meta.timestamp, data.meta.version) if data.meta is not None else None
            self.asked.append(Asked(data.data, meta, key, f"{principal.tenant_id} {current_tenant()}"))
            _fail(data.data.kind)
            return reply(data.data, 200 if key else 201)

        self.express = service_app("things", [post(PATH, express=True)(make)], IDENTITY)
        self.litestar = service_app("things", [post(PATH)(make)], IDENTITY)


@cache
def lanes() -> Lanes:
    return Lanes()


def _fail(kind: str) -> None:
    if kind == "conflict":
        raise ConflictError
    if kind == "limited":
        raise RateLimitedError(headers=[("Retry-After", "7")])
    if kind == "bug":
        raise RuntimeError("a bug")
    if kind == "wrong":
        msgspec.convert("x", int)
    if kind == "deep":
        _fail(kind)


class Answer(NamedTuple):
    status: int
    headers: frozenset[tuple[bytes, bytes]]
    body: Any


async def ask(app: ServiceApp, body: bytes | list[bytes], headers: dict[str, str], query: str = "") -> Answer:
    chunks = [body] if isinstance(body, bytes) else body
    messages: list[dict[str, Any]] = [
        {"type": "http.request", "body": chunk, "more_body": index < len(chunks) - 1}
        for index, chunk in enumerate(chunks)
    ]
    sent: list[dict[str, Any]] = []

    async def receive() -> Any:
        return messages.pop(0) if messages else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope: Any = {
        "type": "http",
        "method": "POST",
        "path": PATH,
        "raw_path": PATH.encode(),
        "root_path": "",
        "scheme": "http",
        "query_string": query.encode(),
        "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }
    await app(scope, receive, send)
    start, content = sent[0], b"".join(message.get("body", b"") for message in sent[1:])
    length = dict(start["headers"]).pop(b"content-length")
    assert int(length) == len(content)
    told = json.loads(content)
    assert told["meta"].pop("timestamp") > 0
    assert told["meta"].pop("duration") >= 0
    kept = frozenset((name, value) for name, value in start["headers"] if name != b"content-length")
    return Answer(start["status"], kept, told)


async def observed(
    app: ServiceApp, body: bytes | list[bytes], headers: dict[str, str], query: str
) -> tuple[Answer, list[Asked], list[str]]:
    """The answer, what the function was asked, and what was logged."""
    lanes().asked.clear()
    with structlog.testing.capture_logs() as logs:
        answer = await ask(app, body, headers, query)
    lines = [f"{line['event']} {line['path']} {line['exc_info']!r}" for line in logs]
    return answer, lanes().asked.copy(), lines


def told_the_same(
    body: bytes | list[bytes], headers: dict[str, str] | None = None, query: str = ""
) -> tuple[Answer, list[Asked]]:
    """The one answer of both, and what the function was asked by one of them."""

    async def scenario() -> tuple[Answer, list[Asked]]:
        sent = USUAL if headers is None else headers
        fast = await observed(lanes().express, body, sent, query)
        slow = await observed(lanes().litestar, body, sent, query)
        assert fast == slow
        assert known() is None
        assert tenant_if_one() is None
        return fast[:2]

    return asyncio.run(scenario())


USUAL = {
    "Content-Type": "application/json",
    "X-Request-ID": "req_1",
    "X-Identity": IDENTITY.sign(Principal("u", "t", permissions=frozenset({"thing.write"}))),
}
GOOD = b'{"data":{"id":"a1","count":3,"heat":36.5,"part":{"name":"p","sizes":[1,2]}},"meta":{"timestamp":1}}'


def test_the_lane_is_taken() -> None:
    app = Lanes().express
    del app.litestar  # whoever asks it now fails
    assert asyncio.run(ask(app, GOOD, USUAL)).status == 201


def test_a_good_request_is_answered_with_what_the_function_replied() -> None:
    answer, asked = told_the_same(GOOD)
    assert (answer.status, answer.body["data"]["id"]) == (201, "a1")
    assert asked == [Asked(Thing("a1", count=3, heat=36.5, part=Part("p", [1, 2])), (1, None), None, "t t")]


@pytest.mark.parametrize("key", ["abc", "ABC", "", "toolongakey", "null", "é"])
def test_a_header_parameter_is_checked(key: str) -> None:
    told_the_same(GOOD, USUAL | {"Idempotency-Key": key})


@pytest.mark.parametrize(
    ("headers", "query"),
    [
        ({"Accept-Language": "en"}, ""),
        ({"Accept-Language": "\u00ff;;q=,"}, ""),
        ({"Content-Type": "text/plain"}, ""),
        ({"Content-Type": "application/json; charset=utf-8"}, ""),
        ({"Content-Type": "application/x-www-form-urlencoded"}, ""),
        ({"Content-Length": "5"}, ""),
        ({"Content-Length": "x"}, ""),
        ({"Content-Length": "99999999999"}, ""),
        ({"X-Identity": "forged"}, ""),
        ({"X-Identity": IDENTITY.sign(Principal("u", "t"))}, ""),
        ({"Expect": "x"}, "a=1&a=2"),
    ],
)
@pytest.mark.parametrize("body", [GOOD, b'{"data":{}}'])
def test_unusual_heads_change_nothing(headers: dict[str, str], query: str, body: bytes) -> None:
    told_the_same(body, USUAL | headers, query)


def test_a_stranger_and_a_request_without_type_are_told_the_same() -> None:
    for name in ("X-Identity", "Content-Type"):
        told_the_same(GOOD, {key: value for key, value in USUAL.items() if key != name})


@pytest.mark.parametrize("kind", ["conflict", "limited", "bug", "wrong", "deep"])
@pytest.mark.parametrize("language", ["zh", "en"])
def test_what_the_function_raises_is_told_the_same(kind: str, language: str) -> None:
    answer, asked = told_the_same(
        json.dumps({"data": {"id": "a", "kind": kind}}).encode(), USUAL | {"Accept-Language": language}
    )
    assert len(asked) == 1
    assert not answer.body["success"]
    assert (b"retry-after", b"7") in answer.headers or kind != "limited"


def data(fields: str) -> bytes:
    return b'{"data":{"id":"a",%s}}' % fields.encode("latin-1")


def meta(value: str) -> bytes:
    return b'{"data":{"id":"a"},"meta":%s}' % value.encode("latin-1")


BODIES = [
    b"",
    b"null",
    b"[]",
    b"{",
    b"\xff",
    b"{}",
    b'{"data":null}',
    b'{"data":{"id":"a"},"x":1}',
    b'{"data":{"id":"UPPER"}}',
    b'{"data":{"id":"a"},"data":{"id":"b"}}',
    b'{"data":{"id":"a"}} x',
    b'{"data":' * 2000 + b"}" * 2000,
    b'\xef\xbb\xbf{"data":{"id":"a"}}',
    '{"data":{"id":"a"}}'.encode("utf-16"),
    data('"x":1'),
    data('"id":"b"'),
    data('"count":-1'),
    data('"count":"3"'),
    data('"count":3.0'),
    data('"count":1e2'),
    data('"count":1e400'),
    data('"count":99999999999999999999999'),
    data('"heat":"36.5"'),
    data('"heat":36'),
    data('"heat":NaN'),
    data('"note":"null"'),
    data('"note":null'),
    data('"note":"\\ud800"'),
    data('"note":"\xff"'),
    data(f'"note":"{"n" * LONGEST}"'),
    data('"sure":"true"'),
    data('"sure":1'),
    data('"part":{}'),
    data('"part":{"name":"p","sizes":["1"]}'),
    data('"labels":{"x":"1"}'),
    data('"pair":[1,"x"]'),
    data('"pair":[1]'),
    meta("null"),
    meta('{"timestamp":"1","version":"v1"}'),
    meta('{"x":1}'),
    meta('{"x":"\xff"}'),
    meta('{"x":"\\ud800"}'),
    meta(f'{{"x":{"[" * 2000}{"]" * 2000}}}'),
]


@pytest.mark.parametrize("body", BODIES, ids=range(len(BODIES)))
def test_a_body_is_read_the_same(body: bytes) -> None:
    told_the_same(body)
    told_the_same([body[:3], body[3:]])


SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-5, 50), st.integers(), st.floats(), st.text(max_size=8),
    st.sampled_from(["null", "true", "1", "36.5", "a1", "good", "2026-01-01", "1e3", "-0", " 1"]),
)  # fmt: skip
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["name", "sizes", "x"]), inner)
    ),
    max_leaves=4,
)
FIELDS = st.sampled_from([*Thing.__struct_fields__, "unknown"])


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(FIELDS, VALUES, max_size=4), st.booleans(), st.none() | VALUES)
def test_whatever_the_values_both_read_the_same(data: dict[str, Any], named: bool, meta: Any) -> None:
    body = {"data": ({"id": "a"} if named else {}) | data} | ({} if meta is None else {"meta": meta})
    told_the_same(json.dumps(body).encode())


def test_a_header_that_is_repeated_is_read_the_same() -> None:
    async def scenario() -> None:
        lanes().asked.clear()
        answers = []
        for app in (lanes().express, lanes().litestar):

            async def doubled(scope: Any, receive: Any, send: Any, app: ServiceApp = app) -> None:
                for key in (b"first", b"second"):
                    scope["headers"].append((b"idempotency-key", key))
                await app(scope, receive, send)

            answers.append(await ask(doubled, GOOD, USUAL))  # type: ignore[arg-type] # an ASGI application too
        assert answers[0] == answers[1]
        first, second = lanes().asked or (None, None)
        assert first == second

    asyncio.run(scenario())


def test_a_client_that_leaves_before_its_body_is_left_to_litestar() -> None:
    async def scenario() -> None:
        lanes().asked.clear()
        outcomes = []
        for app in (lanes().express, lanes().litestar):
            try:
                outcomes.append(repr(await ask(app, [], USUAL)))
            except Exception as error:  # noqa: BLE001 - whatever it is, it is the same
                outcomes.append(repr(error))
        assert outcomes[0] == outcomes[1]
        assert lanes().asked == []

    asyncio.run(scenario())


class Loose(msgspec.Struct):
    part: Part | None = None


@post("/api/loose", express=True)
async def _loose(data: JSONBody[Body[Loose]]) -> None: ...


@post("/api/loose/{thing_id:str}", express=True)
async def _variable(data: JSONBody[Body[Part]], thing_id: FromPath[str]) -> None: ...


@post("/api/loose", express=True)
async def _queried(data: JSONBody[Body[Part]], limit: FromQuery[int] = 5) -> None: ...


@post("/api/loose", express=True)
async def _bodiless() -> None: ...


def _nobody(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    raise NotAuthorizedException


@post("/api/loose", express=True, guards=[_nobody])
async def _guarded(data: JSONBody[Body[Part]]) -> None: ...


@pytest.mark.parametrize("handler", [_loose, _variable, _queried, _bodiless, _guarded])
def test_a_lane_that_could_differ_is_refused_at_start(handler: Any) -> None:
    with pytest.raises(TypeError, match="express"):
        service_app("things", [handler], IDENTITY)
