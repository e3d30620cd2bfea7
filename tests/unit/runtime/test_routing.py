"""The routes' file is followed; what is half written or wrong is not."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from tests.support.edge import Edge, edge

from yuanlian.runtime.routing import RoutesRefusedError, RoutesSource, follow, reload

OPEN = "routes:\n  - {path: /open/**, service: svc, methods: [GET], auth: false}\n"
NEW = OPEN + "  - {path: /new, service: svc, methods: [GET], auth: false}\n"
BAD = OPEN + "  - {path: /new, service: svc, methods: [GTE]}\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "routes.yaml"
    path.write_text(OPEN)
    return path


def test_a_change_is_seen_when_it_has_come_to_rest(path: Path) -> None:
    source = RoutesSource(path)
    source.read()
    assert not source.has_changed()
    path.write_text(NEW[:30])
    assert not source.has_changed()
    path.write_text(NEW)
    assert not source.has_changed()
    assert source.has_changed()
    assert len(source.read().routes) == 2
    assert not source.has_changed()


def test_a_file_put_in_its_place_is_a_change_whatever_its_time_and_size(path: Path) -> None:
    source = RoutesSource(path)
    source.read()
    before = path.stat()
    other = path.with_name("other.yaml")
    other.write_text(OPEN.replace("/open", "/0pen"))
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(path)
    assert [source.has_changed(), source.has_changed()] == [False, True]


def test_a_file_that_goes_and_comes_back_is_noticed_once_each(path: Path) -> None:
    source = RoutesSource(path)
    source.read()
    path.unlink()
    assert [source.has_changed(), source.has_changed()] == [False, True]
    with pytest.raises(RoutesRefusedError, match="No such file"):
        source.read()
    assert not source.has_changed()
    path.write_text(NEW)
    assert [source.has_changed(), source.has_changed()] == [False, True]


@pytest.mark.parametrize(
    ("content", "line", "reason"),
    [
        (BAD.encode(), 3, "GTE"),
        (b"routes:\n  - \xff\n", 2, "UTF-8"),
        (b"", 1, "routes"),
    ],
)
def test_a_refusal_names_file_line_and_reason(path: Path, content: bytes, line: int, reason: str) -> None:
    path.write_bytes(content)
    with pytest.raises(RoutesRefusedError, match=reason) as refused:
        RoutesSource(path).read()
    assert refused.value.line == line
    assert f"{path}, line {line}: " in str(refused.value)


def test_the_gateway_follows_its_file(path: Path) -> None:
    async def scenario(e: Edge) -> None:
        source = RoutesSource(path)
        e.gateway.replace_routes(source.read())
        following = asyncio.create_task(follow(source, e.gateway, look_s=0.01))
        path.write_text(NEW)
        await _until(lambda: _status_is(e, "/new", 200))
        path.write_text(BAD)
        await asyncio.sleep(0.2)
        assert (await e.get("/new")).status == 200
        path.write_text(OPEN)
        await _until(lambda: _status_is(e, "/new", 404))
        following.cancel()

    _with_edge(scenario)


def test_a_reload_that_fails_leaves_the_table(path: Path) -> None:
    async def scenario(e: Edge) -> None:
        source = RoutesSource(path)
        e.gateway.replace_routes(source.read())
        table = e.gateway.table
        path.unlink()
        await reload(source, e.gateway)
        assert e.gateway.table is table

    _with_edge(scenario)


def test_a_request_under_way_keeps_its_route_and_none_is_dropped_while_tables_change(path: Path) -> None:
    """A hundred changes under load; every second table lacks the route of the request that waits."""
    arrived, go = asyncio.Event(), asyncio.Event()

    async def service(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        if scope["path"] == "/held":
            arrived.set()
            await go.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})

    async def ask(e: Edge, statuses: list[int], enough: asyncio.Event) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", e.port)
        while not enough.is_set():
            writer.write(b"GET /open/x HTTP/1.1\r\nHost: a\r\n\r\n" * 3)
            for _ in range(3):
                head = await reader.readuntil(b"\r\n\r\n")
                assert await reader.readexactly(2) == b"ok"
                statuses.append(int(head.split(b" ")[1]))
        writer.close()

    async def scenario() -> None:
        with_held = OPEN + "  - {path: /held, service: svc, methods: [GET], auth: false}\n"
        async with edge(service, routes=with_held) as e:
            source = RoutesSource(path)
            held = asyncio.create_task(e.get("/held"))
            await arrived.wait()
            statuses, enough = list[int](), asyncio.Event()
            asking = [asyncio.create_task(ask(e, statuses, enough)) for _ in range(10)]
            for number in range(100):
                path.write_text(OPEN if number % 2 == 0 else with_held)
                await reload(source, e.gateway)
            path.write_text(OPEN)
            await reload(source, e.gateway)
            assert (await e.get("/held")).status == 404
            go.set()
            assert (await held).body == b"ok"
            enough.set()
            await asyncio.gather(*asking)
            assert len(statuses) > 100
            assert set(statuses) == {200}
            assert ("GET", "/held", 200, "", "") in e.observer.requests

    asyncio.run(scenario())


async def _status_is(e: Edge, path: str, status: int) -> bool:
    return (await e.get(path)).status == status


async def _until(check: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(10):
        while not await check():
            await asyncio.sleep(0.01)


def _with_edge(scenario: Callable[[Edge], Awaitable[None]]) -> None:
    async def run() -> None:
        async with edge() as e:
            await scenario(e)

    asyncio.run(run())
