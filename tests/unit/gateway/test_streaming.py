"""Bodies that pass through while they arrive, in both directions; how fast is up to the slower side."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tests.support.edge import ROUTES, edge, parse, run

from yuanlian.gateway.limits import Limits

LARGE = (
    ROUTES
    + "  - {path: /large/**, service: svc, methods: [GET, POST], auth: false, maxBodyBytes: 100000000}\n"
)
POST = b"POST /large/x HTTP/1.1\r\nHost: a\r\n"
AFTER = b"GET /large/last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
PIECE = b"x" * 50_000


async def _answer(send: Any, body: bytes = b"ok") -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


class Listener:
    """Reads what it is sent as it comes, while ``gate`` is open, and answers how much it was."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.headers: dict[bytes, bytes] = {}
        self.gate = asyncio.Event()
        self.gate.set()
        self.ended: list[str] = []

    @property
    def received(self) -> int:
        return sum(map(len, self.pieces))

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.headers = dict(scope["headers"])
        received = 0
        try:
            more = True
            while more:
                await self.gate.wait()
                message = await receive()
                self.pieces.append(message["body"])
                received += len(message["body"])
                more = message["more_body"]
            await _answer(send, b"%d" % received)
            self.ended.append("done")
        except BaseException as error:
            self.ended.append(type(error).__name__)
            raise


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def until(condition: Any) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


async def settled(count: Any) -> int:
    """The value of ``count()`` once it no longer changes."""
    last = -1
    while count() != last:
        last = count()
        await asyncio.sleep(0.2)
    return int(last)


# --- requests -------------------------------------------------------------------------------------


def test_a_long_body_reaches_the_service_while_it_is_sent() -> None:
    async def scenario() -> None:
        service = Listener()
        async with edge(service, routes=LARGE) as e, connected(e.port) as (reader, writer):
            writer.write(POST + b"Content-Length: 100000\r\n\r\n" + PIECE)
            await until(lambda: service.received == 50_000)
            writer.write(PIECE + AFTER)
            answers = parse(await reader.read())
            assert [a.body for a in answers] == [b"100000", b"0"]
            assert b"transfer-encoding" not in service.headers

    run(scenario)


def test_the_announced_length_goes_along_and_an_unknown_one_does_not() -> None:
    async def scenario() -> None:
        service = Listener()
        async with edge(service, routes=LARGE) as e:
            await e.raw(POST + b"Content-Length: 100000\r\nConnection: close\r\n\r\n" + PIECE * 2)
            assert service.headers[b"content-length"] == b"100000"
            chunk = b"c350\r\n" + PIECE + b"\r\n"
            head = POST + b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
            (answer,) = await e.raw(head, chunk, chunk, chunk, b"0\r\nX-Trailer: 1\r\n\r\n")
            assert answer.body == b"150000"
            assert not {b"content-length", b"transfer-encoding", b"x-trailer"} & service.headers.keys()

    run(scenario)


def test_a_body_in_chunks_is_handed_over_once_it_is_long() -> None:
    async def scenario() -> None:
        service = Listener()
        async with edge(service, routes=LARGE) as e, connected(e.port) as (reader, writer):
            writer.write(POST + b"Transfer-Encoding: chunked\r\n\r\nc350\r\n" + PIECE + b"\r\n")
            await asyncio.sleep(0.05)
            assert service.headers == {}
            writer.write(b"c350\r\n" + PIECE + b"\r\n")
            await until(lambda: service.received == 100_000)
            writer.write(b"0\r\n\r\n" + AFTER)
            assert [a.body for a in parse(await reader.read())] == [b"100000", b"0"]

    run(scenario)


def test_a_slow_service_slows_the_client_down() -> None:
    async def scenario() -> None:
        service = Listener()
        service.gate.clear()
        async with edge(service, routes=LARGE) as e, connected(e.port) as (reader, writer):
            sent = 0

            async def send_all() -> None:
                nonlocal sent
                writer.write(POST + b"Content-Length: 50000000\r\nConnection: close\r\n\r\n")
                for _ in range(1000):
                    writer.write(PIECE)
                    await writer.drain()
                    sent += len(PIECE)

            sending = asyncio.create_task(send_all())
            assert await settled(lambda: sent) < 20_000_000  # what the kernel takes, and a little of ours
            service.gate.set()
            await sending
            assert parse(await reader.read())[0].body == b"50000000"
            assert max(map(len, service.pieces)) < 400_000

    run(scenario)


def test_requests_behind_a_long_body_wait_for_its_answer() -> None:
    async def scenario() -> None:
        service = Listener()
        async with edge(service, routes=LARGE) as e, connected(e.port) as (reader, writer):
            long = POST + b"Content-Length: 100000\r\n\r\n" + PIECE * 2
            chunked = POST + b"Transfer-Encoding: chunked\r\n\r\n186a0\r\n%b\r\n0\r\n\r\n" % (PIECE * 2)
            short = POST + b"Content-Length: 5\r\n\r\nshort"
            writer.write(long + short + chunked + long + AFTER)
            bodies = [a.body for a in parse(await reader.read())]
            assert bodies == [b"100000", b"5", b"100000", b"100000", b"0"]

    run(scenario)


def test_an_answer_before_the_body_is_whole_ends_the_connection() -> None:
    async def hasty(scope: Any, receive: Any, send: Any) -> None:
        await _answer(send, b"enough")

    async def scenario() -> None:
        async with edge(hasty, routes=LARGE) as e, connected(e.port) as (reader, writer):
            writer.write(POST + b"Content-Length: 1000000\r\n\r\n" + PIECE)
            answer = parse(await reader.read())[0]
            assert (answer.body, answer.headers["connection"]) == (b"enough", "close")
            for _ in range(19):
                writer.write(PIECE)  # it is still read for a moment, or the answer could be lost
                await writer.drain()

    run(scenario)


def test_a_refused_long_body_gets_its_answer_though_the_client_is_still_sending() -> None:
    async def scenario() -> None:
        async with edge(routes=LARGE) as e:
            for path, status in ((b"/none", 404), (b"/open/x", 413)):
                head = b"POST " + path + b" HTTP/1.1\r\nHost: a\r\nContent-Length: 900000\r\n\r\n"
                if status == 413:
                    head = head.replace(b"900000", b"2000000")
                (answer,) = await e.raw(head + PIECE, *[PIECE] * 10)
                assert (answer.status, answer.headers["connection"]) == (status, "close")

    run(scenario)


def test_a_body_in_chunks_over_the_limit_is_refused_while_it_is_read() -> None:
    async def scenario() -> None:
        service = Listener()
        async with edge(service) as e:
            head = b"POST /open/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
            (answer,) = await e.raw(head, *[b"c350\r\n" + PIECE + b"\r\n"] * 22)
            assert (answer.status, answer.json["error"]["code"]) == (413, "PAYLOAD_TOO_LARGE")
            assert answer.headers["connection"] == "close"
            assert service.received <= 1024 * 1024
            assert service.ended == ["PayloadTooLargeError"]

    run(scenario)


def test_a_broken_chunk_in_a_long_body_is_a_bad_request() -> None:
    async def scenario() -> None:
        service = Listener()
        async with edge(service, routes=LARGE) as e:
            head = POST + b"Transfer-Encoding: chunked\r\n\r\n"
            (answer,) = await e.raw(head, b"186a0\r\n" + PIECE * 2 + b"\r\n", b"nonsense\r\n")
            assert (answer.status, answer.headers["connection"]) == (400, "close")
            assert "done" not in service.ended

    run(scenario)


def test_an_application_cannot_turn_the_clients_fault_into_its_own() -> None:
    async def catches_all(scope: Any, receive: Any, send: Any) -> None:
        try:
            while (await receive())["more_body"]:
                pass
        except Exception:  # noqa: BLE001 - as frameworks do
            await _answer(send, b"a fault of mine")

    async def scenario() -> None:
        async with edge(catches_all, routes=LARGE) as e:
            head = POST + b"Transfer-Encoding: chunked\r\n\r\n"
            (answer,) = await e.raw(head, b"186a0\r\n" + PIECE * 2 + b"\r\n", b"nonsense\r\n")
            assert answer.status == 400

    run(scenario)


def test_a_long_body_that_stops_is_answered_408() -> None:
    async def scenario() -> None:
        service = Listener()
        limits = Limits(body_stall_s=0.1, sweep_s=0.02)
        async with edge(service, routes=LARGE, limits=limits) as e:
            (answer,) = await e.raw(POST + b"Content-Length: 100000\r\n\r\n" + PIECE)
            assert (answer.status, answer.json["code"], answer.headers["connection"]) == (408, 408, "close")
            assert service.ended == ["RefusedError"]

    run(scenario)


def test_a_client_that_is_held_back_is_not_one_that_stops() -> None:
    async def scenario() -> None:
        service = Listener()
        service.gate.clear()
        limits = Limits(body_stall_s=0.05, sweep_s=0.01)
        async with edge(service, routes=LARGE, limits=limits) as e, connected(e.port) as (reader, writer):
            writer.write(POST + b"Content-Length: 5000000\r\nConnection: close\r\n\r\n" + PIECE * 100)
            await asyncio.sleep(0.3)
            service.gate.set()
            assert parse(await reader.read())[0].body == b"5000000"

    run(scenario)


def test_waiting_for_the_client_is_not_the_services_time() -> None:
    async def scenario() -> None:
        slow = LARGE.replace("maxBodyBytes: 100000000", "maxBodyBytes: 100000000, timeoutMs: 150")
        async with edge(Listener(), routes=slow) as e:
            head = POST + b"Content-Length: 100000\r\nConnection: close\r\n\r\n"
            (answer,) = await e.raw(head, *[b"x" * 2000] * 50)
            assert (answer.status, answer.body) == (200, b"100000")

    run(scenario)


@pytest.mark.parametrize("whole", [False, True])
def test_a_client_that_leaves_takes_its_unfinished_write_along(whole: bool) -> None:
    async def scenario() -> None:
        service = Listener()
        async with edge(service, routes=LARGE) as e:
            async with connected(e.port) as (_, writer):
                writer.write(POST + b"Content-Length: 100000\r\n\r\n" + PIECE)
                await until(lambda: service.received == 50_000)
                service.gate.clear()
                if whole:
                    writer.write(PIECE)
                    await asyncio.sleep(0.05)
            await until(lambda: e.observer.open == 0)
            service.gate.set()
            await until(lambda: service.ended)
            assert service.ended == (["done"] if whole else ["CancelledError"])
            assert [r[2] for r in e.observer.requests] == ([200] if whole else [499])

    run(scenario)


def test_a_long_body_is_asked_for_when_the_service_wants_it() -> None:
    async def scenario() -> None:
        service = Listener()
        service.gate.clear()
        limits = Limits(body_stall_s=0.05, sweep_s=0.01)
        async with edge(service, routes=LARGE, limits=limits) as e, connected(e.port) as (reader, writer):
            expect = b"Content-Length: 100000\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n"
            writer.write(POST + expect)
            asked = asyncio.create_task(reader.readuntil(b"\r\n\r\n"))
            await asyncio.sleep(0.2)
            assert not asked.done()
            service.gate.set()
            assert (await asked).startswith(b"HTTP/1.1 100 ")
            writer.write(PIECE * 2)
            assert parse(await reader.read())[0].body == b"100000"

    run(scenario)


def test_nobody_is_told_to_go_on_after_the_answer() -> None:
    async def answers_first(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"no need", "more_body": True})
        await receive()

    async def scenario() -> None:
        limits = Limits(body_stall_s=0.1, sweep_s=0.02)
        async with (
            edge(answers_first, routes=LARGE, limits=limits) as e,
            connected(e.port) as (reader, writer),
        ):
            writer.write(POST + b"Content-Length: 100000\r\nExpect: 100-continue\r\n\r\n")
            received = b""
            try:
                while piece := await reader.read(1000):
                    received += piece
            except ConnectionError:
                pass  # the rest of the body never came: the answer is cut
            assert received.startswith(b"HTTP/1.1 200 ")
            assert b"100 Continue" not in received

    run(scenario)


# --- responses ------------------------------------------------------------------------------------


class Fountain:
    """Sends ``total`` bytes in pieces; ``sent`` so far."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.sent = 0
        self.ended = ""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            length = [(b"content-length", b"%d" % self.total)]
            await send({"type": "http.response.start", "status": 200, "headers": length})
            while self.sent < self.total:
                await send({"type": "http.response.body", "body": PIECE, "more_body": True})
                self.sent += len(PIECE)
            await send({"type": "http.response.body", "body": b""})
            self.ended = "done"
        except asyncio.CancelledError:
            self.ended = "cancelled"
            raise


def test_a_slow_reader_is_waited_for_and_gets_everything() -> None:
    async def scenario() -> None:
        service = Fountain(50_000_000)
        async with edge(service) as e, connected(e.port) as (reader, writer):
            writer.write(b"GET /open/x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            beginning = await reader.readexactly(100)
            assert await settled(lambda: service.sent) < 20_000_000
            (answer,) = parse(beginning + await reader.read())
            assert len(answer.body) == 50_000_000

    run(scenario)


def test_waiting_for_a_slow_reader_is_not_the_services_time() -> None:
    async def scenario() -> None:
        service = Fountain(20_000_000)
        slow = ROUTES.replace("timeoutMs: 2000", "timeoutMs: 500")
        async with edge(service, routes=slow) as e, connected(e.port) as (reader, writer):
            writer.write(b"GET /open/x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            await asyncio.sleep(0.8)
            assert len(parse(await reader.read())[0].body) == 20_000_000
            assert service.ended == "done"

    run(scenario)


def test_an_answer_may_take_its_time_as_long_as_it_goes_on() -> None:
    async def drip(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(6):
            await asyncio.sleep(0.05)
            await send({"type": "http.response.body", "body": b"x", "more_body": True})
        if scope["path"].endswith("stuck"):
            await asyncio.sleep(60)
        await send({"type": "http.response.body", "body": b""})

    async def scenario() -> None:
        async with edge(drip, routes=ROUTES.replace("timeoutMs: 2000", "timeoutMs: 150")) as e:
            assert (await e.get("/open/x")).body == b"xxxxxx"
            async with connected(e.port) as (reader, writer):
                writer.write(b"GET /open/stuck HTTP/1.1\r\nHost: a\r\n\r\n")
                await reader.readuntil(b"1\r\nx\r\n")
                assert not (await reader.read()).endswith(b"0\r\n\r\n")

    run(scenario)


def test_a_reader_that_leaves_ends_the_answer() -> None:
    async def scenario() -> None:
        service = Fountain(1_000_000_000)
        async with edge(service) as e:
            async with connected(e.port) as (reader, writer):
                writer.write(b"GET /open/x HTTP/1.1\r\nHost: a\r\n\r\n")
                await reader.readexactly(1000)
            await until(lambda: service.ended)
            assert service.ended == "cancelled"

    run(scenario)


def test_a_body_can_be_answered_piece_by_piece_while_it_comes() -> None:
    async def echo(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        more = True
        while more:
            message = await receive()
            more = message["more_body"]
            await send({"type": "http.response.body", "body": message["body"], "more_body": more})

    async def scenario() -> None:
        async with edge(echo, routes=LARGE) as e, connected(e.port) as (reader, writer):
            writer.write(POST + b"Content-Length: 5000000\r\n\r\n")
            answer = asyncio.create_task(reader.read())
            for number in range(100):
                writer.write(bytes([number]) * 50_000)
                await writer.drain()
            (whole,) = parse(await answer)
            assert whole.body == b"".join(bytes([number]) * 50_000 for number in range(100))

    run(scenario)
