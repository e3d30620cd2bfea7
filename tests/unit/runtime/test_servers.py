"""What is said of servers that settings name, and what is shown of them."""

from __future__ import annotations

import asyncio
import re
import socket
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.support import servers
from tests.support.silence import silent, slowly

from deploy.servers.redis import Redis
from yuanlian.runtime.servers import (
    USED_BY_GATEWAYS,
    ServerRefusedError,
    UnfitServerError,
    ask,
    asked,
    masked,
    refuse_unfit,
)
from yuanlian.runtime.settings import Settings


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("redis://:geheim@host:6379/0", "redis://:********@host:6379/0"),
        ("redis://:ge@heim@host:6379/0", "redis://:********@host:6379/0"),
        ("amqp://user:p:a@ss@host/", "amqp://user:********@host/"),
        ("http://a:x@one:80, http://b:y@z@two:80", "http://a:********@one:80, http://b:********@two:80"),
        ("redis://host:6379/0?password=geheim&db=1", "redis://host:6379/0?password=********&db=1"),
        ("redis://host:6379/0?ssl_password=ge:he@im", "redis://host:6379/0?ssl_password=********"),
        ("http://one:80, http://two:80", "http://one:80, http://two:80"),
        ("sqlite+aiosqlite:///data/x.db", "sqlite+aiosqlite:///data/x.db"),
    ],
)
def test_no_part_of_a_password_is_shown(text: str, shown: str) -> None:
    assert masked(text) == shown


def _on(ports: list[int]) -> Settings:
    database, bus, cache, registry = ports
    return Settings(
        database_url=f"mysql://name:geheim@127.0.0.1:{database}/x",
        bus_url=f"amqp://name:geheim@127.0.0.1:{bus}/",
        cache_url=f"redis://:geheim@127.0.0.1:{cache}/0",
        registry_url=f"redis://:geheim@127.0.0.1:{registry}/0",
    )


def test_a_start_is_refused_for_every_server_that_is_silent() -> None:
    """Only the first was named."""
    with silent(4) as ports, pytest.raises(ServerRefusedError) as refused:
        asyncio.run(refuse_unfit(_on(ports)))
    named = re.findall(r"^YUANLIAN_(\w+) \(from: ", str(refused.value), re.MULTILINE)
    assert named == ["DATABASE_URL", "BUS_URL"]
    assert "geheim" not in str(refused.value)


def test_a_gateway_is_not_refused_for_what_only_services_use() -> None:
    """And without Redis it does much."""
    with silent(4) as ports:
        asyncio.run(refuse_unfit(_on(ports), USED_BY_GATEWAYS))


def test_a_name_server_that_is_silent_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The refusal was known, and then the process lasted as long as the system's resolver tried."""
    tried, over, waited_out = threading.Event(), threading.Event(), list[str]()
    system = socket.getaddrinfo

    def hangs(host: str | None, *arguments: Any, **options: Any) -> Any:
        if host != "far.away":
            return system(host, *arguments, **options)
        tried.set()
        if not over.wait(60):
            waited_out.append(host)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", hangs)
    settings = Settings(
        database_url="mysql://name:geheim@far.away:3306/x",
        bus_url="amqp://name:geheim@far.away:5672/",
        cache_url="redis://:geheim@far.away:6379/0",
    )
    try:
        answers = asyncio.run(ask(settings, asked(settings)))  # with the end of its loop's threads
        assert tried.is_set()
        assert waited_out == []
    finally:
        over.set()
    assert len(answers) == 3
    assert {str(answer).partition(" within")[0] for answer in answers.values()} == {"no address of its host"}
    assert all(isinstance(answer, UnfitServerError) and answer.away for answer in answers.values())


def test_a_host_without_an_address_is_told_of() -> None:
    settings = Settings(
        database_url="mysql://name:geheim@nobody.invalid/x", bus_url="amqp://name:geheim@nobody.invalid/"
    )
    answers = asyncio.run(ask(settings, asked(settings)))
    assert len(answers) == 2
    assert all(str(answer).startswith("its host has no address") for answer in answers.values())


def test_a_redis_that_has_let_us_in_may_be_slow() -> None:
    """Three seconds were all that it had for everything, on a machine on which it did not get them."""
    server, names = servers.redis(), ("cache_url", "registry_url")

    async def scenario() -> Mapping[str, str | UnfitServerError]:
        async with slowly(server.port, 0.3) as port:
            url = server.url.replace(f":{server.port}/", f":{port}/")
            return await ask(Settings(cache_url=url, registry_url=url), names)

    answers = asyncio.run(scenario())
    assert all(re.fullmatch(r"Redis \d\.\d", str(answers[name])) for name in names), answers


def test_the_node_of_a_cluster_that_is_silent_is_named(tmp_path: Path) -> None:
    """One that announces an address at which nobody answers had all the time for work, and no name."""
    servers.need(Redis)
    node = Redis(tmp_path, cluster=True)
    node.start()
    try:
        with silent(1) as (port,):
            assert node.ask("CLUSTER", "ADDSLOTSRANGE", "0", "16383") == b"+OK\r\n"
            assert node.ask("CONFIG", "SET", "cluster-announce-port", f"{port}") == b"+OK\r\n"
            settings = Settings(cache_url=f"{node.url}?cluster=true")
            answer = asyncio.run(ask(settings, ["cache_url"]))["cache_url"]
    finally:
        node.stop()
    assert isinstance(answer, UnfitServerError)
    assert answer.away
    assert f"its node 127.0.0.1:{port} does not answer" in str(answer)


def test_a_cluster_that_does_not_serve_all_its_slots_is_told_of(tmp_path: Path) -> None:
    """One that nobody has put together yet has none, and then there was no server to ask for its version."""
    servers.need(Redis)
    node = Redis(tmp_path, cluster=True)
    node.start()
    try:
        settings = Settings(cache_url=f"{node.url}?cluster=true")
        for command in (["PING"], ["CLUSTER", "ADDSLOTSRANGE", "0", "100"]):
            node.ask(*command)
            answer = asyncio.run(ask(settings, ["cache_url"]))["cache_url"]
            assert isinstance(answer, UnfitServerError)
            assert "does not serve all its 16384 slots" in str(answer)
            assert answer.away, "the driver takes no command then: a gateway starts without"
        node.ask("CLUSTER", "ADDSLOTSRANGE", "101", "16383")
        assert str(asyncio.run(ask(settings, ["cache_url"]))["cache_url"]).startswith("Redis ")
    finally:
        node.stop()


def test_servers_are_asked_at_once() -> None:
    """They were asked one after the other, and so waited for. These hang up when all have been reached."""

    async def scenario() -> None:
        reached: list[asyncio.StreamWriter] = []
        all_reached = asyncio.Event()

        async def meet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            reached.append(writer)
            if len(reached) == 4:
                all_reached.set()
            await all_reached.wait()
            writer.close()

        listening = [await asyncio.start_server(meet, "127.0.0.1", 0) for _ in range(4)]
        settings = _on([one.sockets[0].getsockname()[1] for one in listening])
        await ask(settings, asked(settings))
        assert all_reached.is_set()
        for one in listening:
            one.close()

    asyncio.run(scenario())
