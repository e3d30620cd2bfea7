"""A WebSocket through the gateway to a service of its own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest
import websockets
from tests.support.edge import Edge, edge
from tests.support.instances import Serve, instance, listening, ok, read_request, upstream_to
from tests.support.websocket import on_both_loops
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve

from yuanlian.gateway.http import Request
from yuanlian.gateway.response import ResponseWriter
from yuanlian.gateway.upstreams.http import HttpUpstream
from yuanlian.gateway.upstreams.tunnel import Admitted, TunnelLimits, Tunnels
from yuanlian.kit.clock import SystemClock

ROUTES = """
routes:
  - {path: /live/**, service: svc, methods: [GET], auth: true, upgrade: [websocket]}
  - {path: /open/**, service: svc, methods: [GET], auth: false, upgrade: [websocket], timeoutMs: 500}
  - {path: /plain/**, service: svc, methods: [GET], auth: false}
  - {path: /few, service: svc, methods: [GET], auth: false, upgrade: [websocket],
     rateLimit: {max: 1, windowMs: 60000}}
"""
_REQUEST = b"GET /open/a HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
_SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: WebSocket\r\n\r\n"
_ASKING = ["Connection: Upgrade", "Upgrade: websocket"]


@asynccontextmanager
async def tunnelling(
    url: str, limits: TunnelLimits | None = None
) -> AsyncIterator[tuple[Edge, Tunnels, HttpUpstream]]:
    async with upstream_to([url]) as upstream, edge(upstream=upstream, routes=ROUTES) as one:
        tunnels = Tunnels(
            one.gateway.admit_tunnel, one.observer, one.revocations, one.tenants, SystemClock(), limits
        )
        one.gateway.tunnels = tunnels
        try:
            yield one, tunnels, upstream
        finally:
            await tunnels.stop()


def over(
    scenario: Callable[[Edge, Tunnels, HttpUpstream], Coroutine[Any, Any, None]],
    handler: Callable[[ServerConnection], Coroutine[Any, Any, None]],
    limits: TunnelLimits | None = None,
) -> None:
    """Runs the scenario before a real WebSocket server."""

    async def run() -> None:
        async with serve(handler, "127.0.0.1", 0, max_size=None, compression=None) as server:
            port = next(iter(server.sockets)).getsockname()[1]
            async with tunnelling(f"http://127.0.0.1:{port}", limits) as (one, tunnels, upstream):
                await scenario(one, tunnels, upstream)

    on_both_loops(run)


def against(serve_: Serve, scenario: Callable[[Edge, Tunnels], Coroutine[Any, Any, None]]) -> None:
    """Runs the scenario before a server that says what a test wants."""

    async def run() -> None:
        async with listening(serve_) as port, tunnelling(f"http://127.0.0.1:{port}") as (one, tunnels, _):
            await scenario(one, tunnels)

    on_both_loops(run)


async def _echo(socket: ServerConnection) -> None:
    async for message in socket:
        await socket.send(message)


def _to(one: Edge, path: str, **options: Any) -> Any:
    headers = options.pop("headers", {})
    return connect(f"ws://127.0.0.1:{one.port}{path}", additional_headers=headers, max_size=None, **options)


def _signed(one: Edge, **claims: Any) -> dict[str, str]:
    return {"Authorization": f"Bearer {one.token(**claims)}"}


async def _until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():
            await asyncio.sleep(0.01)


def test_messages_pass_both_ways_and_the_service_knows_who_speaks() -> None:
    async def handler(socket: ServerConnection) -> None:
        assert socket.request is not None
        await socket.send(socket.request.headers["x-tenant-id"])
        assert "x-identity" in socket.request.headers
        assert "authorization" not in socket.request.headers
        await _echo(socket)

    async def scenario(one: Edge, tunnels: Tunnels, upstream: HttpUpstream) -> None:
        async with _to(one, "/live/a?x=1", headers=_signed(one)) as socket:
            assert await socket.recv() == "a"
            for message in ("小一班", "x" * 3_000_000, b"\x00" * 70_000):
                await socket.send(message)
                assert await socket.recv() == message
            (member,) = upstream.cluster.members.values()
            assert (len(tunnels), member.outstanding) == (1, 1)
        await _until(lambda: not len(tunnels))
        assert member.outstanding == 0
        (line,) = one.observer.lines
        assert (line.method, line.route, line.status, line.user_id) == ("GET", "/live/**", 101, "user_1")
        assert line.bytes_in > 3_000_000
        assert line.bytes_out > 3_000_000
        assert line.instance == member.name
        await _until(lambda: one.observer.open == 0)

    over(scenario, handler)


def test_bytes_sent_right_behind_the_request_and_the_answer_are_not_lost() -> None:
    async def serve_(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(_SWITCHED + b"hello")
        writer.write(await reader.readexactly(5))
        await writer.drain()

    async def scenario(one: Edge, tunnels: Tunnels) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", one.port)
        writer.write(_REQUEST + b"early")
        answer = await asyncio.wait_for(reader.read(), 10)
        writer.close()
        assert answer.startswith(b"HTTP/1.1 101 ")
        assert answer.endswith(b"\r\n\r\nhelloearly")

    against(serve_, scenario)


@pytest.mark.parametrize("claims", [None, {"exp": 1}])
def test_who_is_not_signed_in_gets_no_tunnel(claims: dict[str, Any] | None) -> None:
    async def scenario(one: Edge, tunnels: Tunnels, upstream: HttpUpstream) -> None:
        headers = [] if claims is None else [one.bearer(**claims)]
        answer = await one.get("/live/a", *_ASKING, *headers)
        assert (answer.status, answer.json["error"]["code"]) == (401, "AUTHENTICATION_ERROR")
        other = await one.get("/live/a", *_ASKING, one.bearer(), "X-Tenant-ID: b")
        assert other.status == 403
        (member,) = upstream.cluster.members.values()
        assert member.pool.take(repeatable=True) is None
        await _until(lambda: not len(tunnels))
        assert [line.status for line in one.observer.lines] == [401, 403]

    over(scenario, _echo)


def test_a_tunnel_counts_as_a_request_for_the_limit() -> None:
    async def scenario(one: Edge, tunnels: Tunnels, upstream: HttpUpstream) -> None:
        async with _to(one, "/few"):
            answer = await one.get("/few", *_ASKING)
            assert answer.status == 429
            assert "retry-after" in answer.headers

    over(scenario, _echo)


def test_other_routes_and_other_protocols_stay_http() -> None:
    async def run() -> None:
        async with instance(lambda *_: ok(b"plain")) as service, tunnelling(service.url) as (one, _, __):
            for path, protocol in (("/plain/a", "websocket"), ("/open/a", "h2c"), ("/open/a", "x")):
                answer = await one.get(path, "Connection: Upgrade", f"Upgrade: {protocol}")
                assert (answer.status, answer.body) == (200, b"plain")
            assert not [request for request in service.requests if b"upgrade" in request.head.lower()]

    on_both_loops(run)


def test_a_service_that_refuses_is_heard() -> None:
    async def run() -> None:
        refusal = ok(b"not today", b"x-why: 1", status=b"403 Forbidden")
        async with instance(lambda *_: refusal) as service, tunnelling(service.url) as (one, tunnels, _):
            answer = await one.get("/open/a", *_ASKING)
            assert (answer.status, answer.body, answer.headers["x-why"]) == (403, b"not today", "1")
            await _until(lambda: not len(tunnels))

    on_both_loops(run)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: other\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"garbage\r\n\r\n",
        b"",
    ],
)
def test_a_service_that_switches_to_something_else_is_502(answer: bytes) -> None:
    async def serve_(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(answer)
        await writer.drain()

    async def scenario(one: Edge, tunnels: Tunnels) -> None:
        refused = await one.get("/open/a", *_ASKING)
        assert (refused.status, refused.json["error"]["code"]) == (502, "BAD_GATEWAY")
        await _until(lambda: not len(tunnels))

    against(serve_, scenario)


def test_a_service_that_does_not_answer_is_504_and_one_that_is_not_there_503() -> None:
    async def serve_(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async def scenario(one: Edge, tunnels: Tunnels) -> None:
        assert (await one.get("/open/a", *_ASKING)).status == 504

    against(serve_, scenario)

    async def nobody() -> None:
        async with instance(lambda *_: b"") as service:
            url = service.url
        async with tunnelling(url) as (one, _, __):
            assert (await one.get("/open/a", *_ASKING)).status == 503

    on_both_loops(nobody)


def test_a_client_that_leaves_before_the_answer_ends_the_attempt() -> None:
    async def run() -> None:
        asked, gone = asyncio.Event(), asyncio.Event()

        async def serve_(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await read_request(reader)
            asked.set()
            await reader.read()
            gone.set()

        async with (
            listening(serve_) as port,
            tunnelling(f"http://127.0.0.1:{port}") as (one, tunnels, upstream),
        ):
            _, writer = await asyncio.open_connection("127.0.0.1", one.port)
            writer.write(_REQUEST)
            await asked.wait()
            writer.close()
            await asyncio.wait_for(gone.wait(), 0.4)
            await _until(lambda: not len(tunnels))
            assert [member.outstanding for member in upstream.cluster.members.values()] == [0]
            assert [line.status for line in one.observer.lines] == [499]

    on_both_loops(run)


def test_a_slow_reader_stops_the_sender_and_the_gateway_keeps_little() -> None:
    piece, pieces = bytes(64 * 1024), 800

    async def run() -> None:
        said = 0

        async def serve_(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal said
            await read_request(reader)
            writer.write(_SWITCHED)
            for _ in range(pieces):
                writer.write(piece)
                await writer.drain()
                said += 1

        async with listening(serve_) as port, tunnelling(f"http://127.0.0.1:{port}") as (one, tunnels, _):
            reader, writer = await asyncio.open_connection("127.0.0.1", one.port, limit=1024)
            writer.write(_REQUEST)
            await reader.readuntil(b"\r\n\r\n")
            await _stands_still(lambda: said)
            assert said < pieces / 2  # the kernel's buffers, and ours of 64 KiB
            (tunnel,) = tunnels.tunnels
            assert tunnel.client.transport is not None
            assert tunnel.client.transport.get_write_buffer_size() < 1024 * 1024
            got = 0
            while chunk := await asyncio.wait_for(reader.read(1 << 20), 10):
                got += len(chunk)
            assert got == pieces * len(piece)
            writer.close()

    on_both_loops(run)


async def _stands_still(count: Callable[[], int]) -> None:
    async with asyncio.timeout(10):
        before = -1
        while count() != before:
            before = count()
            await asyncio.sleep(0.2)


def test_a_revoked_member_an_expired_token_and_a_suspended_tenant_lose_their_tunnels() -> None:
    limits = TunnelLimits(sweep_s=0.05)

    async def scenario(one: Edge, tunnels: Tunnels, upstream: HttpUpstream) -> None:
        now = int(time.time())
        async with (
            _to(one, "/live/a", headers=_signed(one, user="user_1")) as revoked,
            _to(one, "/live/a", headers=_signed(one, user="user_2", exp=now + 2)) as expired,
            _to(one, "/live/a", headers=_signed(one, user="user_3", tenant="b")) as suspended,
            _to(one, "/live/a", headers=_signed(one, user="user_4")) as stays,
        ):
            one.tenants.set_status("b", "suspended")
            with pytest.raises(websockets.ConnectionClosed):
                await asyncio.wait_for(suspended.recv(), 30)
            await one.revocations.revoke_session("session_user_1", now + 600)
            with pytest.raises(websockets.ConnectionClosed):
                await asyncio.wait_for(revoked.recv(), 30)
            with pytest.raises(websockets.ConnectionClosed):
                await asyncio.wait_for(expired.recv(), 30)
            await stays.send("still here")
            assert await stays.recv() == "still here"

    over(scenario, _echo, limits)


def test_a_member_revoked_while_being_let_in_gets_no_tunnel() -> None:
    async def scenario(one: Edge, tunnels: Tunnels, upstream: HttpUpstream) -> None:
        async def admit(request: Request, response: ResponseWriter) -> Admitted:
            admitted = await one.gateway.admit_tunnel(request, response)
            await one.revocations.revoke_session("session_user_1", int(time.time()) + 600)
            return admitted

        one.gateway.tunnels = Tunnels(admit, one.observer, one.revocations, one.tenants, SystemClock())
        answer = await one.get("/live/a", *_ASKING, one.bearer())
        assert answer.status == 401
        assert b"AUTHENTICATION_ERROR" in answer.body

    over(scenario, _echo)


def test_silence_ends_a_tunnel() -> None:
    async def scenario(one: Edge, tunnels: Tunnels, upstream: HttpUpstream) -> None:
        async with _to(one, "/open/a", ping_interval=None) as socket:
            with pytest.raises(websockets.ConnectionClosed):
                await asyncio.wait_for(socket.recv(), 30)
        await _until(lambda: not len(tunnels))

    over(scenario, _echo, TunnelLimits(idle_s=0.2, sweep_s=0.05))


@pytest.mark.parametrize("switches", [False, True])
def test_a_client_that_reads_nothing_does_not_keep_its_tunnel(switches: bool) -> None:
    head = _SWITCHED if switches else b"HTTP/1.1 200 OK\r\n\r\n"
    limits = TunnelLimits(sweep_s=0.05, stall_s=0.3, linger_s=0.1)

    async def run() -> None:
        left = asyncio.Event()

        async def serve_(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await read_request(reader)
            writer.write(head)
            try:
                while True:
                    writer.write(bytes(64 * 1024))
                    await writer.drain()
            except ConnectionError:
                left.set()

        async with (
            listening(serve_) as port,
            tunnelling(f"http://127.0.0.1:{port}", limits) as (one, tunnels, _),
        ):
            reader, writer = await asyncio.open_connection("127.0.0.1", one.port, limit=1024)
            writer.write(_REQUEST)
            await reader.readuntil(b"\r\n\r\n")

            async def goes_on_talking() -> None:
                while not left.is_set():
                    writer.write(b"more")
                    await asyncio.sleep(0.02)

            talking = asyncio.create_task(goes_on_talking())
            async with asyncio.timeout(30):
                await left.wait()
            await _until(lambda: not len(tunnels))
            await talking
            writer.close()

    on_both_loops(run)


def test_there_are_only_so_many() -> None:
    async def scenario(one: Edge, tunnels: Tunnels, upstream: HttpUpstream) -> None:
        async with _to(one, "/open/a"):
            assert (await one.get("/open/a", *_ASKING)).status == 503

    over(scenario, _echo, TunnelLimits(tunnels=1))
