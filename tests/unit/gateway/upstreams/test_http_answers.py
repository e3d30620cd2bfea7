"""What instances answer, and what the gateway makes of it."""

from __future__ import annotations

import asyncio

import pytest
from tests.support.instances import (
    Pieces,
    SlowSink,
    asking,
    instance,
    listening,
    ok,
    read_request,
    upstream_to,
)
from tests.support.websocket import on_both_loops

from yuanlian.gateway.upstreams.sink import Collector
from yuanlian.kit.errors import BadGatewayError, GatewayTimeoutError, ServiceUnavailableError


def ask(*answers: bytes, times: int = 1, method: str = "GET") -> tuple[list[Collector], int]:
    """What each of ``times`` requests got, and how many connections that took."""

    async def scenario() -> tuple[list[Collector], int]:
        sinks = []
        async with (
            instance(lambda _, n: answers[(n - 1) % len(answers)]) as one,
            upstream_to([one.url]) as upstream,
        ):
            for _ in range(times):
                sink = Collector()
                await upstream.forward(asking(method), sink)
                sinks.append(sink)
            return sinks, one.connections

    return asyncio.run(scenario())


def test_an_answer_arrives_and_the_connection_is_used_again() -> None:
    sinks, connections = ask(ok(b"hello", b"X-Own: 1"), times=3)
    assert [(sink.status, sink.body()) for sink in sinks] == [(200, b"hello")] * 3
    assert (b"x-own", b"1") in sinks[0].headers
    assert connections == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\nx-late: 1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding:  Chunked \r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5 \r\n\r\nhello",
        b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n" + ok(b"hello"),
    ],
)
def test_chunks_trailers_and_interim_answers_leave_the_connection_good(answer: bytes) -> None:
    sinks, connections = ask(answer, times=2)
    assert [(sink.status, sink.body()) for sink in sinks] == [(200, b"hello")] * 2
    assert not {b"link", b"x-late"} & {name for name, _ in sinks[0].headers}
    assert connections == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nhello",
        b"HTTP/1.0 200 OK\r\nconnection: close\r\n\r\nhello",
        ok(b"hello", b"Connection: close"),
        ok(b"hello") + b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
        ok(b"hello") + b"garbage",
    ],
)
def test_a_connection_that_ends_or_says_more_than_asked_is_not_used_again(answer: bytes) -> None:
    sinks, connections = ask(answer, times=2)
    assert [sink.body() for sink in sinks] == [b"hello"] * 2
    assert connections == 2


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
def test_answers_without_a_body(status: bytes) -> None:
    sinks, connections = ask(b"HTTP/1.1 %b\r\netag: x\r\n\r\n" % status, times=2)
    assert [sink.body() for sink in sinks] == [b""] * 2
    assert connections == 1


def test_head_has_no_body_whatever_its_length_says() -> None:
    sinks, _ = ask(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n", method="HEAD")
    assert (b"content-length", b"5") in sinks[0].headers
    assert sinks[0].body() == b""


def test_headers_that_connection_names_belong_to_the_hop() -> None:
    sinks, _ = ask(ok(b"", b"connection: keep-alive, X-Hop", b"x-hop: 1"))
    assert not [name for name, _ in sinks[0].headers if name == b"x-hop"]


@pytest.mark.parametrize(
    "answer",
    [
        b"garbage\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\ncontent-length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx-long: %b\r\n\r\n" % (b"a" * 70_000),
        b"HTTP/1.1 200 OK\r\nx-endless: " + b"a" * 200_000,
        b"",
    ],
)
def test_what_is_no_answer_is_502(answer: bytes) -> None:
    with pytest.raises(BadGatewayError):
        ask(answer)


def test_an_answer_that_ends_early_raises_after_it_has_started() -> None:
    async def scenario() -> None:
        sink = Collector()
        answer = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\nconnection: close\r\n\r\nhello"
        async with instance(lambda *_: answer) as one, upstream_to([one.url]) as upstream:
            with pytest.raises(BadGatewayError):
                await upstream.forward(asking(), sink)
        assert sink.started
        assert not sink.finished

    on_both_loops(scenario)


@pytest.mark.parametrize("endless", [b"3\r\nabc\r\n0\r\nx-trailer: ", b"3\r\nabc\r\n5;extension="])
def test_what_is_neither_head_nor_body_has_an_end(endless: bytes) -> None:
    async def scenario() -> None:
        sent = 0

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal sent
            await read_request(reader)
            writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + endless)
            while sent < 64 * 1024 * 1024:
                writer.write(b"a" * 4096)
                await writer.drain()
                sent += 4096

        async with listening(serve) as port, upstream_to([f"http://127.0.0.1:{port}"]) as upstream:
            with pytest.raises(BadGatewayError):
                await upstream.forward(asking(), Collector())
        assert sent < 16 * 1024 * 1024

    on_both_loops(scenario)


def test_nobody_there_is_503() -> None:
    async def scenario() -> None:
        async with instance(lambda *_: b"") as one:
            url = one.url
        async with upstream_to([url]) as upstream:
            with pytest.raises(ServiceUnavailableError):
                await upstream.forward(asking(), Collector())
        async with upstream_to([]) as upstream:
            with pytest.raises(ServiceUnavailableError):
                await upstream.forward(asking(), Collector())

    on_both_loops(scenario)


def test_silence_is_504_and_so_is_a_pause_in_the_answer() -> None:
    async def scenario(begin: bytes) -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await read_request(reader)
            writer.write(begin)
            await reader.read()

        async with listening(serve) as port, upstream_to([f"http://127.0.0.1:{port}"]) as upstream:
            with pytest.raises(GatewayTimeoutError):
                await upstream.forward(asking(timeout_s=0.1), Collector())

    asyncio.run(scenario(b""))
    asyncio.run(scenario(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhel"))


def test_an_answer_that_keeps_coming_may_take_longer_than_the_time_limit() -> None:
    async def scenario() -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await read_request(reader)
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 12\r\n\r\n")
            for _ in range(12):
                await asyncio.sleep(0.1)
                writer.write(b".")
            await reader.read()

        sink = Collector()
        async with listening(serve) as port, upstream_to([f"http://127.0.0.1:{port}"]) as upstream:
            await upstream.forward(asking(timeout_s=0.6), sink)
        assert sink.body() == b"." * 12

    on_both_loops(scenario)


def test_a_slow_client_stops_the_instance_and_does_not_run_into_the_time_limit() -> None:
    async def scenario() -> None:
        total = 32 * 1024 * 1024
        written = 0

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal written
            await read_request(reader)
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % total)
            while written < total:
                writer.write(bytes(65536))
                await writer.drain()
                written += 65536
            await reader.read()

        sink = SlowSink()
        async with listening(serve) as port, upstream_to([f"http://127.0.0.1:{port}"]) as upstream:
            task = asyncio.create_task(upstream.forward(asking(timeout_s=0.2), sink))
            await asyncio.sleep(0.6)
            assert sink.taken < 1024 * 1024
            assert written < total
            sink.drain()
            await task
        assert sink.taken == total

    on_both_loops(scenario)


def test_a_client_that_leaves_ends_the_request_upstream() -> None:
    async def scenario() -> None:
        asked, left = asyncio.Event(), asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await read_request(reader)
            asked.set()
            assert await reader.read() == b""
            left.set()

        async with listening(serve) as port, upstream_to([f"http://127.0.0.1:{port}"]) as upstream:
            task = asyncio.create_task(upstream.forward(asking(), Collector()))
            await asked.wait()
            task.cancel()
            await asyncio.wait({task})
            await asyncio.wait_for(left.wait(), 30)
            assert task.cancelled()
            assert [member.outstanding for member in upstream.cluster.members.values()] == [0]

    on_both_loops(scenario)


@pytest.mark.parametrize("length", [None, 10])
def test_a_body_that_is_still_arriving_is_passed_on(length: int | None) -> None:
    async def scenario() -> None:
        async with instance(lambda *_: ok()) as one, upstream_to([one.url]) as upstream:
            for _ in range(2):
                sink = Collector()
                await upstream.forward(asking("POST", body=Pieces(b"hello", b"world", length=length)), sink)
                assert sink.body() == b"fine"
        assert [request.body for request in one.requests] == [b"helloworld"] * 2
        assert (b"content-length: 10" in one.requests[0].lines) is (length is not None)
        assert one.connections == 1

    on_both_loops(scenario)


def test_a_client_that_sends_slowly_does_not_run_into_the_time_limit_of_the_instance() -> None:
    """It did, once the answer had begun."""

    class Slow(Pieces):
        async def read(self) -> bytes:
            await asyncio.sleep(0.3)
            return await super().read()

    async def scenario() -> None:
        async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n")
            for _ in range(3):
                writer.write(await reader.readexactly(2))
            await reader.read()

        sink = Collector()
        async with listening(echo) as port, upstream_to([f"http://127.0.0.1:{port}"]) as upstream:
            body = Slow(b"ab", b"cd", b"ef", length=6)
            await upstream.forward(asking("POST", body=body, timeout_s=0.1), sink)
        assert sink.body() == b"abcdef"

    on_both_loops(scenario)


def test_an_answer_before_the_body_is_whole_ends_the_exchange() -> None:
    async def scenario() -> None:
        class Endless(Pieces):
            async def read(self) -> bytes:
                await asyncio.Event().wait()
                return b""

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(ok(b"no", status=b"413 Content Too Large"))
            await reader.read()

        async with listening(serve) as port, upstream_to([f"http://127.0.0.1:{port}"]) as upstream:
            sink = Collector()
            await upstream.forward(asking("POST", body=Endless(length=10)), sink)
            assert sink.status == 413
            (member,) = upstream.cluster.members.values()
            assert member.pool.take(repeatable=True) is None

    on_both_loops(scenario)


def test_an_instance_that_reads_slowly_stops_the_body() -> None:
    async def scenario() -> None:
        class Large(Pieces):
            taken = 0

            async def read(self) -> bytes:
                await asyncio.sleep(0)
                if self.taken == 512:
                    return b""
                self.taken += 1
                return bytes(65536)

        go = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            head = await reader.readuntil(b"\r\n\r\n")
            await go.wait()
            await reader.readexactly(int(head.split(b"content-length: ")[1].split(b"\r\n")[0]))
            writer.write(ok())
            await reader.read()

        body = Large(length=512 * 65536)
        async with listening(serve) as port, upstream_to([f"http://127.0.0.1:{port}"]) as upstream:
            sink = Collector()
            task = asyncio.create_task(upstream.forward(asking("POST", body=body), sink))
            await asyncio.sleep(0.3)
            assert body.taken < 256
            go.set()
            await task
        assert sink.status == 200

    on_both_loops(scenario)
