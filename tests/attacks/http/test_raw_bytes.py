"""Bytes that a well-meaning client never sends: smuggling, ambiguity, protocol abuse.

What must hold for each: one refusal with the envelope, the connection closed, nothing forwarded, and
never a second answer, which would be a smuggled request. RFC 9112 §11.2.
"""

from __future__ import annotations

import asyncio

import pytest
from tests.support.edge import Recorder, edge, run

POST = b"POST /open/x HTTP/1.1\r\nHost: a\r\n"
GET = b"GET /open/x HTTP/1.1\r\nHost: a\r\n"
SMUGGLED = b"GET /open/smuggled HTTP/1.1\r\nHost: a\r\n\r\n"

AMBIGUOUS = {
    "length and chunked": POST
    + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    + SMUGGLED,
    "chunked and length": POST
    + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n"
    + SMUGGLED,
    "two equal lengths": POST + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc" + SMUGGLED,
    "two lengths": POST + b"Content-Length: 3\r\nContent-Length: 0\r\n\r\nabc" + SMUGGLED,
    "a list of lengths": POST + b"Content-Length: 3, 3\r\n\r\nabc" + SMUGGLED,
    "a signed length": POST + b"Content-Length: +3\r\n\r\nabc" + SMUGGLED,
    "a negative length": POST + b"Content-Length: -3\r\n\r\nabc" + SMUGGLED,
    "a hexadecimal length": POST + b"Content-Length: 0x3\r\n\r\nabc" + SMUGGLED,
    "an endless length": POST + b"Content-Length: 99999999999999999999999\r\n\r\n" + SMUGGLED,
    "chunked is not last": POST + b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "no chunked at all": POST + b"Transfer-Encoding: gzip\r\n\r\n" + SMUGGLED,
    "almost chunked": POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "chunked twice": POST
    + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n"
    + SMUGGLED,
    "hidden by a tab": POST + b"Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "space before the colon": POST + b"Content-Length : 3\r\n\r\nabc" + SMUGGLED,
    "folded header": POST + b"X-A: 1\r\n Content-Length: 3\r\n\r\nabc" + SMUGGLED,
    "chunked in HTTP/1.0": b"POST /open/x HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "bad chunk size": POST + b"Transfer-Encoding: chunked\r\n\r\n0x3\r\nabc\r\n0\r\n\r\n" + SMUGGLED,
    "chunk longer than said": POST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n" + SMUGGLED,
    "bare line feed in a chunk": POST + b"Transfer-Encoding: chunked\r\n\r\n3\nabc\r\n0\r\n\r\n" + SMUGGLED,
    "upgrade with a body": POST
    + b"Connection: upgrade\r\nUpgrade: h2c\r\nContent-Length: 70\r\n\r\n"
    + SMUGGLED,
    "bare line feeds": b"GET /open/x HTTP/1.1\nHost: a\n\n" + SMUGGLED,
    "bare carriage return": GET + b"X-A: b\rX-B: c\r\n\r\n" + SMUGGLED,
    "NUL in a header": GET + b"X-A: b\0c\r\n\r\n" + SMUGGLED,
    "an empty header name": GET + b": x\r\n\r\n" + SMUGGLED,
    "two hosts": GET + b"Host: b\r\n\r\n" + SMUGGLED,
    "no host": b"GET /open/x HTTP/1.1\r\n\r\n" + SMUGGLED,
    "two authorizations": GET + b"Authorization: a\r\nAuthorization: b\r\n\r\n" + SMUGGLED,
    "two tenants": GET + b"X-Tenant-ID: a\r\nx-tenant-id: b\r\n\r\n" + SMUGGLED,
    "HTTP/0.9": b"GET /open/x\r\n\r\n" + SMUGGLED,
    "HTTP/2 in the clear": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/3.0": b"GET /open/x HTTP/3.0\r\nHost: a\r\n\r\n" + SMUGGLED,
    "CONNECT": b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n" + SMUGGLED,
    "asterisk": b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n" + SMUGGLED,
    "a target without a slash": b"GET open/x HTTP/1.1\r\nHost: a\r\n\r\n" + SMUGGLED,
    "a fragment": b"GET /open/x#y HTTP/1.1\r\nHost: a\r\n\r\n" + SMUGGLED,
    "another host in the target": b"GET http://b/open/x HTTP/1.1\r\nHost: a\r\n\r\n" + SMUGGLED,
    "a space in the target": b"GET /open/x y HTTP/1.1\r\nHost: a\r\n\r\n" + SMUGGLED,
    "bytes that are no ASCII": b"GET /open/\xe7\x8f\xad HTTP/1.1\r\nHost: a\r\n\r\n" + SMUGGLED,
    "a method in small letters": b"get /open/x HTTP/1.1\r\nHost: a\r\n\r\n" + SMUGGLED,
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100),
    "line noise": bytes(range(256)),
}


@pytest.mark.parametrize("data", AMBIGUOUS.values(), ids=AMBIGUOUS.keys())
@pytest.mark.parametrize("bytewise", [False, True], ids=["at once", "in pieces"])
def test_a_request_that_can_be_read_two_ways_is_read_in_none(data: bytes, bytewise: bool) -> None:
    async def scenario() -> None:
        service = Recorder()
        async with edge(service) as e:
            reader, writer = await asyncio.open_connection("127.0.0.1", e.port)
            pieces = [data[i : i + 3] for i in range(0, len(data), 3)] if bytewise else [data]
            for piece in pieces:
                writer.write(piece)
                if bytewise:
                    await asyncio.sleep(0)
            answer = await asyncio.wait_for(reader.read(), 5)
            assert answer.startswith(b"HTTP/1.1 400 "), answer[:80]
            assert answer.count(b"HTTP/1.1 ") == 1
            assert b'"code":"VALIDATION_ERROR"' in answer
            assert b"connection: close\r\n" in answer
            assert service.seen == []
            writer.close()

    run(scenario)


UNSAFE_PATHS = [
    "/open/../private/x", "/open/./x", "/open/..", "/open//x", "//open/x", "/open/%2e%2e/private",
    "/open/%2E/x", "/open/..%2fprivate", "/open/a%2Fb", "/open/a%5cb", "/open/a\\b", "/open/%00",
    "/open/%0d%0aX", "/open/%7f", "/open/%", "/open/%zz", "/open/%c3%28", "/open/%ff", "/%2e%2e/etc",
    "/open/%252e%252e%2f",
]  # fmt: skip


@pytest.mark.parametrize("path", UNSAFE_PATHS)
def test_a_path_that_could_mean_another_is_refused(path: str) -> None:
    async def scenario() -> None:
        service = Recorder()
        async with edge(service) as e:
            assert (await e.get(path)).status == 400
            assert service.seen == []

    run(scenario)


def test_an_answer_to_nonsense_is_in_the_language_that_was_understood() -> None:
    async def scenario() -> None:
        async with edge() as e:
            (answer,) = await e.raw(POST + b"Accept-Language: en\r\nContent-Length: x\r\n\r\n")
            assert answer.json["message"] == "Malformed request"

    run(scenario)


def test_many_half_open_connections_do_not_keep_others_out() -> None:
    async def scenario() -> None:
        async with edge() as e:
            slow = [await asyncio.open_connection("127.0.0.1", e.port) for _ in range(200)]
            for _, writer in slow:
                writer.write(b"GET /open/x HTTP/1.1\r\nHost: ")
            assert (await e.get("/open/x")).status == 200
            for _, writer in slow:
                writer.close()

    run(scenario)


def test_markup_in_the_api_description_stays_text() -> None:
    evil = "<script>alert(1)</script>"
    operation = {
        "tags": [evil],
        "summary": evil,
        "description": evil,
        "parameters": [{"name": evil, "in": evil, "description": evil, "schema": {"type": evil}}],
        "requestBody": {"content": {evil: {"schema": {"properties": {evil: {"enum": [evil]}}}}}},
        "responses": {evil: {"description": evil, "content": {evil: {"schema": {"$ref": f"#/x/{evil}"}}}}},
    }
    document = {
        "openapi": "3.1.0",
        "info": {"title": evil, "version": evil},
        "paths": {f"/{evil}": {"get": operation}},
    }

    async def scenario() -> None:
        async with edge(openapi=document) as e:
            page = await e.get("/docs")
            assert page.status == 200
            assert b"<script" not in page.body
            assert b"&lt;script&gt;" in page.body
            assert "script" not in page.headers["content-security-policy"]
            assert "default-src 'none'" in page.headers["content-security-policy"]

    run(scenario)
