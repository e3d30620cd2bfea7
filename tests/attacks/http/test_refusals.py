"""Refusals, and what a hostile client can do beside sending hostile bytes (`test_corpus.py`)."""

from __future__ import annotations

import asyncio

from tests.support.edge import edge, run

POST = b"POST /open/x HTTP/1.1\r\nHost: a\r\n"


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
