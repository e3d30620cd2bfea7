"""HTTP/1.1 on a client connection: order, keeping alive, limits, ends. RFC 9112."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest
from tests.support.edge import Recorder, edge, parse, run

from yuanlian.gateway.http import Request
from yuanlian.gateway.limits import Limits

GET = b"GET /open/%b HTTP/1.1\r\nHost: a\r\n\r\n"
LAST = b"GET /open/last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


async def _all_until_the_end(reader: asyncio.StreamReader) -> bytes:
    """What arrives until the other side closes or resets."""
    try:
        return await reader.read()
    except ConnectionError:
        return b""


async def _echo_path(scope: Any, receive: Any, send: Any) -> None:
    """The first paths are the slowest."""
    await asyncio.sleep(0.05 if scope["path"].endswith("1") else 0)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": scope["path"].encode()})


def test_pipelined_requests_are_answered_in_order() -> None:
    async def scenario() -> None:
        async with edge(_echo_path) as e:
            answers = await e.raw(GET % b"1" + GET % b"2" + GET % b"3" + LAST)
            assert [a.body for a in answers] == [b"/open/1", b"/open/2", b"/open/3", b"/open/last"]

    run(scenario)


def test_a_connection_serves_one_request_after_another() -> None:
    async def scenario() -> None:
        async with edge() as e:
            answers = await e.raw(GET % b"1", GET % b"2", LAST)
            assert [a.status for a in answers] == [200, 200, 200]
            assert ["connection" in a.headers for a in answers] == [False, False, True]

    run(scenario)


def test_a_request_may_arrive_byte_by_byte() -> None:
    async def scenario() -> None:
        async with edge() as e:
            reader, writer = await asyncio.open_connection("127.0.0.1", e.port)
            for byte in LAST:
                writer.write(bytes([byte]))
                await asyncio.sleep(0)
            assert parse(await reader.read())[0].status == 200
            writer.close()

    run(scenario)


def test_http_1_0_is_closed_after_the_answer_unless_it_asks_to_stay() -> None:
    async def scenario() -> None:
        async with edge() as e:
            (answer,) = await e.raw(b"GET /open/x HTTP/1.0\r\n\r\n")
            assert answer.headers["connection"] == "close"
            stay = b"GET /open/x HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
            first, second = await e.raw(stay + b"GET /open/x HTTP/1.0\r\n\r\n")
            assert (first.headers["connection"], second.headers["connection"]) == ("keep-alive", "close")

    run(scenario)


def test_head_gets_the_head_of_get() -> None:
    async def scenario() -> None:
        service = Recorder()
        async with edge(service) as e:
            reader, writer = await asyncio.open_connection("127.0.0.1", e.port)
            writer.write(b"HEAD /open/x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            head, _, body = (await reader.read()).partition(b"\r\n\r\n")
            assert b"content-length: 2" in head
            assert body == b""
            assert service.seen[0].method == "GET"
            writer.close()

    run(scenario)


def test_the_absolute_form_of_a_target_is_understood() -> None:
    async def scenario() -> None:
        service = Recorder()
        async with edge(service) as e:
            await e.raw(b"GET http://a/open/x?y=1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            assert (service.seen[0].path, service.seen[0].query) == ("/open/x", b"y=1")

    run(scenario)


def test_a_chunked_body_reaches_the_service_whole() -> None:
    async def scenario() -> None:
        service = Recorder()
        async with edge(service) as e:
            head = (
                b"POST /open/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
            )
            (answer,) = await e.raw(
                head, b"5\r\nhello\r\n", b"6;ext=1\r\n world\r\n", b"0\r\nX-Trailer: 1\r\n\r\n"
            )
            assert answer.status == 200
            (seen,) = service.seen
            assert seen.body == b"hello world"
            assert (seen.header("content-length"), seen.header("transfer-encoding")) == ("11", None)
            assert seen.header("x-trailer") is None

    run(scenario)


def test_a_client_that_waits_before_its_body_is_told_to_go_on() -> None:
    async def scenario() -> None:
        async with edge() as e:
            reader, writer = await asyncio.open_connection("127.0.0.1", e.port)
            writer.write(
                b"POST /open/x HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n"
                b"Connection: close\r\n\r\n"
            )
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
            writer.write(b"hi")
            assert parse(await reader.read())[0].status == 200
            writer.close()

    run(scenario)


@pytest.mark.parametrize("expect", [b"", b"Expect: 100-continue\r\n"])
def test_a_body_over_the_routes_limit_is_refused_before_it_is_sent(expect: bytes) -> None:
    async def scenario() -> None:
        service = Recorder()
        async with edge(service) as e:
            (answer,) = await e.raw(
                b"POST /tiny HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n" + expect + b"\r\n"
            )
            assert (answer.status, answer.json["error"]["code"]) == (413, "PAYLOAD_TOO_LARGE")
            assert answer.headers["connection"] == "close"
            assert service.seen == []
            assert e.observer.requests == [("POST", "/tiny", 413, "", "")]

    run(scenario)


def test_a_body_of_nobody_known_is_not_read() -> None:
    async def scenario() -> None:
        async with edge() as e:
            (answer,) = await e.raw(b"POST /private/x HTTP/1.1\r\nHost: a\r\nContent-Length: 900000\r\n\r\n")
            assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")
            assert (await e.get("/private/x", e.bearer(), method="POST", body=b"hi")).status == 200

    run(scenario)


def test_a_short_body_of_nobody_known_costs_no_connection() -> None:
    async def scenario() -> None:
        service = Recorder()
        async with edge(service) as e:
            stranger = b"POST /private/x HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi"
            assert [a.status for a in await e.raw(stranger + LAST)] == [401, 200]
            assert [seen.path for seen in service.seen] == ["/open/last"]

    run(scenario)


def test_a_chunked_body_is_refused_as_soon_as_it_is_over_the_limit() -> None:
    async def scenario() -> None:
        async with edge() as e:
            head = b"POST /tiny HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
            (answer,) = await e.raw(head + b"8\r\n12345678\r\n", b"8\r\n12345678\r\n", b"8\r\n12345678\r\n")
            assert answer.status == 413

    run(scenario)


def test_a_refusal_waits_for_the_answers_before_it() -> None:
    async def scenario() -> None:
        async with edge(_echo_path) as e:
            answers = await e.raw(GET % b"1" + GET % b"2" + b"nonsense\r\n\r\n")
            assert [a.status for a in answers] == [200, 200, 400]

    run(scenario)


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET /open/%b HTTP/1.1\r\nHost: a\r\n\r\n" % (b"x" * 9000), 414),
        (b"GET /open/x HTTP/1.1\r\nHost: a\r\nX-Big: %b\r\n\r\n" % (b"x" * 33_000), 431),
        (b"GET /open/x HTTP/1.1\r\nHost: a\r\n" + b"X-A: b\r\n" * 101 + b"\r\n", 431),
        (b"GET /open/x HTTP/1.1\r\nHost: a\r\nX-Endless: " + b"x" * 400_000, 431),
    ],
    ids=["target", "header bytes", "header count", "a header without end"],
)
def test_a_head_over_its_limits_is_refused_with_an_envelope(request_bytes: bytes, status: int) -> None:
    async def scenario() -> None:
        async with edge() as e:
            pieces = [request_bytes[i : i + 16_000] for i in range(0, len(request_bytes), 16_000)]
            (answer,) = await e.raw(*pieces)
            assert (answer.status, answer.json["code"]) == (status, status)
            assert answer.json["meta"]["requestId"] == answer.headers["x-request-id"]

    run(scenario)


def test_many_requests_in_pieces_are_not_taken_for_one_large_head() -> None:
    async def scenario() -> None:
        async with edge() as e:
            stream = GET % b"x" * 2000 + LAST
            reader, writer = await asyncio.open_connection("127.0.0.1", e.port)
            for start in range(0, len(stream), 1009):
                writer.write(stream[start : start + 1009])
                await asyncio.sleep(0)
            answers = parse(await reader.read())
            assert len(answers) == 2001
            assert {a.status for a in answers} == {200}
            writer.close()

    run(scenario)


def test_a_head_or_body_that_does_not_arrive_is_answered_408() -> None:
    limits = Limits(head_s=0.1, body_stall_s=0.1, sweep_s=0.02)

    async def scenario() -> None:
        async with edge(limits=limits) as e:
            for started in (
                b"GET /open/x HT",
                b"POST /open/x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab",
            ):
                (answer,) = await e.raw(started)
                assert (answer.status, answer.json["code"]) == (408, 408)

    run(scenario)


def test_a_slow_drip_does_not_prolong_the_time_for_a_head() -> None:
    async def scenario() -> None:
        async with edge(limits=Limits(head_s=0.15, sweep_s=0.02)) as e:
            (answer,) = await e.raw(*([b"GET /open/x HTTP/1.1\r\nHost: a\r\n"] + [b"X-A: b\r\n"] * 40))
            assert answer.status == 408

    run(scenario)


def test_an_idle_connection_is_closed_without_a_word() -> None:
    async def scenario() -> None:
        async with edge(limits=Limits(idle_s=0.05, sweep_s=0.02)) as e:
            assert await e.raw() == []
            assert len(await e.raw(GET % b"x")) == 1

    run(scenario)


def test_a_long_answer_comes_as_it_is_made() -> None:
    next_piece = asyncio.Event()

    async def two_pieces(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"one", "more_body": True})
        await next_piece.wait()
        await send({"type": "http.response.body", "body": b"two"})

    async def scenario() -> None:
        async with edge(two_pieces) as e:
            reader, writer = await asyncio.open_connection("127.0.0.1", e.port)
            writer.write(LAST)
            assert b"one" in await reader.readuntil(b"one\r\n")
            next_piece.set()
            assert await reader.read() == b"3\r\ntwo\r\n0\r\n\r\n"
            writer.close()

    run(scenario)


def test_an_answer_cut_short_is_not_made_to_look_whole() -> None:
    async def breaks_off(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"10")]})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise RuntimeError

    async def scenario() -> None:
        async with edge(breaks_off) as e:
            reader, writer = await asyncio.open_connection("127.0.0.1", e.port)
            writer.write(GET % b"x")
            received = await _all_until_the_end(reader)
            assert b"half" in received or received == b""  # a reset may overtake what was sent
            assert not received.endswith(b"0\r\n\r\n")
            assert e.observer.requests[0][2] == 200
            writer.close()

    run(scenario)


def test_a_service_that_breaks_before_a_byte_was_sent_is_answered_for() -> None:
    async def breaks_off(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"10")]})
        raise RuntimeError

    async def scenario() -> None:
        async with edge(breaks_off) as e:
            first, second = await e.raw(GET % b"x" + LAST)
            assert (first.status, first.json["error"]["code"]) == (502, "BAD_GATEWAY")
            assert second.status == 502

    run(scenario)


def test_a_service_that_cancels_itself_leaves_no_connection_behind() -> None:
    async def gives_up(scope: Any, receive: Any, send: Any) -> None:
        raise asyncio.CancelledError

    async def scenario() -> None:
        async with edge(gives_up) as e:
            assert await e.raw(GET % b"x") == []
            assert e.observer.requests[0][2] == 499
            assert e.observer.open == 0

    run(scenario)


def test_a_slow_reader_slows_the_service_down() -> None:
    sent = 0

    async def endless(scope: Any, receive: Any, send: Any) -> None:
        nonlocal sent
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while True:
            await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})
            sent += 65536

    async def scenario() -> None:
        async with edge(endless) as e:
            reader, writer = await asyncio.open_connection("127.0.0.1", e.port, limit=65536)
            writer.write(LAST)
            await reader.readexactly(100)
            settled = -1
            while settled != sent:
                settled = sent
                await asyncio.sleep(0.2)
            assert sent < 64 * 1024 * 1024
            writer.transport.abort()

    run(scenario)


def test_answers_do_not_pile_up_for_a_client_that_does_not_read_them() -> None:
    answered = 0

    async def large(scope: Any, receive: Any, send: Any) -> None:
        nonlocal answered
        answered += 1
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x" * 4_000_000})

    async def scenario() -> None:
        async with edge(large, limits=Limits(write_stall_s=0.5, sweep_s=0.05)) as e:
            reader, writer = await asyncio.open_connection("127.0.0.1", e.port, limit=65536)
            writer.write(GET % b"x" * 100)
            while e.observer.open:
                await asyncio.sleep(0.05)
            assert answered < 10
            assert len(await _all_until_the_end(reader)) < 40_000_000
            writer.close()

    run(scenario)


def test_a_client_that_leaves_cancels_its_read_but_not_its_write() -> None:
    ended: list[tuple[str, str]] = []

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        try:
            await asyncio.sleep(0.2)
            await send({"type": "http.response.start", "status": 201, "headers": []})
            await send({"type": "http.response.body", "body": b"done"})
            ended.append((scope["method"], "done"))
        except asyncio.CancelledError:
            ended.append((scope["method"], "cancelled"))
            raise

    async def scenario() -> None:
        async with edge(slow) as e:
            for method in (b"GET", b"POST"):
                _, writer = await asyncio.open_connection("127.0.0.1", e.port)
                writer.write(method + b" /open/x HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
                await asyncio.sleep(0.05)
                writer.close()
                while len(ended) < (1 if method == b"GET" else 2):
                    await asyncio.sleep(0.01)
            assert ended == [("GET", "cancelled"), ("POST", "done")]
            await asyncio.sleep(0.01)
            assert [r[2] for r in e.observer.requests] == [499, 201]
            assert e.observer.open == 0

    run(scenario)


def test_stopping_answers_what_was_asked_and_closes_what_is_idle() -> None:
    async def scenario() -> None:
        async with edge(_echo_path) as e:
            idle_reader, idle_writer = await asyncio.open_connection("127.0.0.1", e.port)
            reader, writer = await asyncio.open_connection("127.0.0.1", e.port)
            writer.write(GET % b"1")
            await asyncio.sleep(0.02)
            await e.server.stop(drain_s=5)
            (answer,) = parse(await reader.read())
            assert answer.body == b"/open/1"
            assert await idle_reader.read() == b""
            with pytest.raises(OSError):
                await asyncio.open_connection("127.0.0.1", e.port)
            idle_writer.close()
            writer.close()

    run(scenario)


def test_stopping_does_not_wait_longer_than_it_is_told() -> None:
    async def never(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.Event().wait()

    async def scenario() -> None:
        async with edge(never) as e:
            reader, writer = await asyncio.open_connection("127.0.0.1", e.port)
            writer.write(GET % b"1")
            await asyncio.sleep(0.02)
            await e.server.stop(drain_s=0.1)
            assert await _all_until_the_end(reader) == b""
            writer.close()

    run(scenario)


def test_a_taken_port_is_told() -> None:
    async def scenario() -> None:
        async with edge() as first, edge() as second:
            with pytest.raises(OSError):
                await second.server.start("127.0.0.1", first.port)

    run(scenario)


class _Shout(asyncio.Protocol):
    """Answers everything in capitals."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._transport.write(data.upper())


class _Shouting:
    def accept(self, transport: asyncio.Transport, request: Request, leftover: bytes) -> asyncio.Protocol:
        transport.write(b"HTTP/1.1 101 Switching Protocols\r\n\r\n" + leftover.upper())
        return _Shout(transport)


UPGRADE = b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


def test_a_websocket_takes_the_connection_over_with_what_was_sent_behind_the_request() -> None:
    async def scenario() -> None:
        async with edge(_echo_path, websocket=_Shouting()) as e:
            reader, writer = await asyncio.open_connection("127.0.0.1", e.port)
            writer.write(GET % b"1" + UPGRADE + b"early ")
            answer = await reader.readuntil(b"EARLY ")
            assert answer.index(b"/open/1") < answer.index(b"101 Switching")
            writer.write(b"late")
            assert await reader.readexactly(4) == b"LATE"
            assert e.observer.open == 0
            writer.close()

    run(scenario)


class _Failing:
    def accept(self, transport: asyncio.Transport, request: Request, leftover: bytes) -> asyncio.Protocol:
        raise RuntimeError("it must not, and did")


def test_a_connection_that_nobody_takes_over_is_ended() -> None:
    async def scenario() -> None:
        async with edge(websocket=_Failing()) as e:
            reader, writer = await asyncio.open_connection("127.0.0.1", e.port)
            writer.write(UPGRADE)
            try:
                assert await asyncio.wait_for(reader.read(), 10) == b""
            finally:
                writer.close()
            assert (e.observer.open, len(e.server._connections)) == (0, 0)

    run(scenario)


def test_an_upgrade_that_nobody_offers_is_ignored() -> None:
    async def scenario() -> None:
        async with edge(websocket=_Shouting()) as e:
            upgrade = b"GET /open/x HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
            assert [a.status for a in await e.raw(upgrade + upgrade + LAST)] == [200, 200, 200]
            assert {a.status for a in await e.raw(upgrade * 2000 + LAST)} == {200}

    run(scenario)


def test_a_client_that_never_takes_its_last_answer_is_cut_off_in_the_end() -> None:
    """What is unsent may be less than the water mark: then nothing says that the client does not read."""

    async def big(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": bytes(int(scope["path"].rpartition("/")[2]))})

    async def scenario() -> None:
        limits = Limits(idle_s=0.2, write_stall_s=0.4, sweep_s=0.05)
        async with edge(big, limits=limits) as e:
            clients = []
            for kilobytes in range(64, 6000, 150):
                client = socket.socket()
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                client.connect(("127.0.0.1", e.port))
                client.sendall(GET % b"%d" % (kilobytes * 1024))
                clients.append(client)
            try:
                async with asyncio.timeout(20):
                    while len(e.server._connections):
                        await asyncio.sleep(0.05)
            finally:
                for client in clients:
                    client.close()

    run(scenario)
