"""Refusals, and what a hostile client can do beside sending hostile bytes (`test_corpus.py`)."""

from __future__ import annotations

import asyncio
import gc

import httptools
from tests.support.edge import edge, run
from tests.support.wire import Witness, exchange

GET = b"GET /open/x HTTP/1.1\r\nHost: a\r\n"
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


def test_a_connection_that_is_gone_is_freed_without_the_collector() -> None:
    """Parser and intake held each other. The collector rarely looks at what is old, so a flood of short
    connections took 100 MB and more."""

    def parsers() -> int:
        return sum(isinstance(o, httptools.HttpRequestParser) for o in gc.get_objects())

    async def scenario() -> None:
        witness = Witness()
        async with edge(witness) as e:
            before = parsers()
            half = POST + b"Content-Length: 70000\r\n\r\nabc"
            for data in (GET + b"\r\n", GET + b": x\r\n\r\n", GET, half) * 5:
                await exchange(e.gateway, witness, [data])
            assert parsers() == before

    gc.collect()
    gc.disable()
    try:
        run(scenario)
    finally:
        gc.enable()
