"""Named channels of Redis: who is told that a channel is heard, hears everything from there on."""

from __future__ import annotations

import asyncio

import pytest
from tests.support import servers

from yuanlian.kit.channels import Channels
from yuanlian.kit.redis import Redis

pytestmark = pytest.mark.servers


@pytest.mark.parametrize("turns", range(8))
def test_who_listens_again_as_the_channel_is_given_up_is_told_when_it_is_heard(turns: int) -> None:
    """``turns`` of the event loop lie between the end and the new beginning."""

    async def scenario() -> None:
        url = servers.redis().url
        redis, other = (Redis(url, timeout_s=servers.PATIENCE_S) for _ in range(2))
        await other.ping()
        channels = Channels(redis)
        heard: list[bytes] = []
        await channels.start()
        begun = asyncio.Event()
        end = channels.listen("again", heard.append, on_open=begun.set)
        await begun.wait()
        for number in range(20):
            end()
            for _ in range(turns):
                await asyncio.sleep(0)
            begun = asyncio.Event()
            end = channels.listen("again", heard.append, on_open=begun.set)
            await begun.wait()
            await other.execute("PUBLISH", "again", number)
            async with asyncio.timeout(30):
                while b"%d" % number not in heard:
                    await asyncio.sleep(0.001)
        await channels.stop()
        await redis.close()
        await other.close()

    asyncio.run(scenario())
