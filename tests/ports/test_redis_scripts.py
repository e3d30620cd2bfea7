"""Many calls of one script: one by one in a cluster, together on one server, with the same answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from redis.exceptions import ResponseError
from tests.support import servers

from yuanlian.kit.redis import Redis
from yuanlian.kit.redis_scripts import Call, Script

URLS: dict[str, Callable[[], str]] = {
    "redis": lambda: servers.redis().url,
    "redis cluster": lambda: servers.redis_cluster().url,
}
_SCRIPT = Script(
    before="local said = 'said ' .. redis.call('ECHO', 'once')\n",
    source="""
if ARGV[1] == 'nothing' then return nil end
if ARGV[1] == 'wrong type' then return redis.call('LPUSH', KEYS[1], 'x') end
if ARGV[1] == 'mistake' then return ARGV[1] + {} end
redis.call('SET', KEYS[1], table.concat(ARGV, ' '))
return {said, #KEYS, #ARGV, redis.call('GET', KEYS[#KEYS])}
""",
)


@pytest.fixture(params=URLS)
def url(request: pytest.FixtureRequest) -> str:
    return URLS[request.param]()


def answers(url: str, calls: Sequence[Call]) -> Sequence[Any]:
    async def ask() -> Sequence[Any]:
        redis = Redis(url, timeout_s=servers.PATIENCE_S)
        try:
            await redis.execute("FLUSHALL")
            return await redis.run_many(_SCRIPT, calls)
        finally:
            await redis.close()

    return asyncio.run(ask())


def test_every_call_has_its_own_keys_and_words(url: str) -> None:
    calls: list[Call] = [
        (["{a}1"], ["one"]),
        (["{b}1", "{b}2", "{b}1"], ["two", 2, b"\x00\xff"]),
        (["{a}2"], []),
    ]
    assert answers(url, calls) == [
        [b"said once", 1, 1, b"one"],
        [b"said once", 3, 3, b"two 2 \x00\xff"],
        [b"said once", 1, 0, b""],
    ]


def test_a_call_that_fails_fails_alone(url: str) -> None:
    wishes = ("fine", "wrong type", "nothing", "mistake", "fine")
    first, wrong, nothing, mistake, last = answers(url, [(["{a}1"], [wish]) for wish in wishes])
    assert first == last == [b"said once", 1, 1, b"fine"]
    assert nothing is None
    assert isinstance(wrong, ResponseError)
    assert "WRONGTYPE" in str(wrong)
    assert isinstance(mistake, ResponseError)
    assert "arithmetic" in str(mistake)


def test_a_server_that_has_never_seen_the_script_is_sent_it(url: str) -> None:
    async def scenario() -> None:
        redis = Redis(url, timeout_s=servers.PATIENCE_S)
        try:
            for _ in range(2):
                await redis.execute("SCRIPT FLUSH")
                found = await redis.run_many(_SCRIPT, [([f"{{{n}}}"], [n]) for n in range(300)])
                assert [int(answer[3]) for answer in found] == list(range(300))
        finally:
            await redis.close()

    asyncio.run(scenario())
