"""The whole way: client, gateway, a service over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from tests.support.edge import edge
from tests.support.instances import instance, listening, ok, read_request, upstream_to
from tests.support.websocket import on_both_loops

ROUTES = """
routes:
  - {path: /open/**, service: svc, methods: [GET, POST], auth: false, timeoutMs: 1000}
  - {path: /private/**, service: svc, methods: [GET, POST], auth: true}
"""


def test_a_service_hears_what_the_gateway_says_and_the_log_names_the_instance() -> None:
    async def scenario() -> None:
        async with (
            instance(lambda *_: ok(b"hello", b"x-own: 1", b"keep-alive: timeout=5")) as service,
            upstream_to([service.url]) as upstream,
            edge(upstream=upstream, routes=ROUTES) as one,
        ):
            answer = await one.get("/private/a?x=%31", one.bearer(), "X-User-ID: somebody", "X-Own: 2")
            assert (answer.status, answer.body, answer.headers["x-own"]) == (200, b"hello", "1")
            assert "keep-alive" not in answer.headers
            (request,) = service.requests
            assert request.lines[0] == b"GET /private/a?x=%31 HTTP/1.1"
            names = [line.split(b":")[0] for line in request.lines[1:] if line]
            assert names.count(b"x-identity") == names.count(b"x-request-id") == names.count(b"host") == 1
            assert not {b"authorization", b"x-user-id", b"connection", b"content-length"} & set(names)
            assert [line.instance for line in one.observer.lines] == [f"127.0.0.1:{service.port}"]

    on_both_loops(scenario)


def test_long_bodies_go_through_in_pieces() -> None:
    long = bytes(200_000)

    async def scenario() -> None:
        async with (
            instance(lambda request, _: ok(request.body)) as service,
            upstream_to([service.url]) as upstream,
            edge(upstream=upstream, routes=ROUTES) as one,
        ):
            answer = await one.get("/open/a", method="POST", body=long)
            assert (answer.status, answer.body) == (200, long)
            chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (long, b"end"))
            head = (
                b"POST /open/a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
            )
            (answer,) = await one.raw(head + chunks + b"0\r\n\r\n")
            assert (answer.status, answer.body) == (200, long + b"end")
            assert [request.body for request in service.requests] == [long, long + b"end"]

    on_both_loops(scenario)


def test_a_broken_answer_is_an_envelope_before_it_starts_and_a_cut_connection_afterwards() -> None:
    async def scenario() -> None:
        half = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\nconnection: close\r\n\r\nhalf"
        async with (
            instance(lambda request, _: half if b"/half" in request.head else b"garbage\r\n\r\n") as service,
            upstream_to([service.url]) as upstream,
            edge(upstream=upstream, routes=ROUTES) as one,
        ):
            answer = await one.get("/open/a", method="POST", body=b"x")
            assert (answer.status, answer.json["error"]["code"]) == (502, "BAD_GATEWAY")
            reader, writer = await asyncio.open_connection("127.0.0.1", one.port)
            writer.write(b"GET /open/half HTTP/1.1\r\nHost: a\r\n\r\n")
            try:
                heard = await asyncio.wait_for(reader.read(), 30)
            except ConnectionResetError:
                heard = b""
            writer.close()
            assert not heard or heard.endswith(b"half")

    on_both_loops(scenario)


def test_a_client_that_leaves_ends_a_question_and_not_an_order() -> None:
    async def scenario() -> None:
        for method, ends in ((b"GET", True), (b"POST", False)):
            asked, left, answered = asyncio.Event(), asyncio.Event(), asyncio.Event()

            async def serve(
                reader: asyncio.StreamReader,
                writer: asyncio.StreamWriter,
                asked: asyncio.Event = asked,
                left: asyncio.Event = left,
                answered: asyncio.Event = answered,
            ) -> None:
                await read_request(reader)
                asked.set()
                if await _within(reader.read(), 0.3) is None:
                    writer.write(ok())
                    answered.set()
                    await reader.read()
                left.set()

            async with (
                listening(serve) as port,
                upstream_to([f"http://127.0.0.1:{port}"]) as upstream,
                edge(upstream=upstream, routes=ROUTES) as one,
            ):
                _, writer = await asyncio.open_connection("127.0.0.1", one.port)
                writer.write(b"%b /open/a HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n" % method)
                await asked.wait()
                writer.close()
                await asyncio.wait_for((left if ends else answered).wait(), 30)
                assert answered.is_set() is not ends

    on_both_loops(scenario)


async def _within(work: Coroutine[Any, Any, bytes], seconds: float) -> bytes | None:
    try:
        return await asyncio.wait_for(work, seconds)
    except TimeoutError:
        return None
