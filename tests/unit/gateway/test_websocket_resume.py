"""Coming back on ``/ws`` without missing or repeating anything. CONTRACT §7."""

from __future__ import annotations

import asyncio

from tests.support.websocket import Client, Edge, on_both_loops

from yuanlian.kit.realtime.hub import Event


async def texts(client: Client, count: int) -> list[str]:
    return [(await client.hear())["data"]["text"] for _ in range(count)]


def test_what_was_missed_comes_after_auth_success_and_before_anything_newer() -> None:
    async def scenario() -> None:
        async with Edge() as edge:
            edge.service.follows["user_1"] = ["class:1"]
            client = await edge.sign_in()
            await edge.announce("seen", "class:1")
            cursor = (await client.hear())["cursor"]
            await client.socket.close()
            await edge.announce("missed 1", "class:1")
            await edge.announce("not ours", "class:2")
            await edge.announce("missed 2", "user:user_1")
            back, answer = await edge.auth(resume=cursor)
            assert answer["type"] == "auth_success"
            await edge.announce("new", "class:1")
            assert await texts(back, 3) == ["missed 1", "missed 2", "new"]
            await back.hear_nothing_but_pong()

    on_both_loops(scenario)


def test_the_cursor_of_auth_success_resumes_too() -> None:
    async def scenario() -> None:
        async with Edge() as edge:
            client, answer = await edge.auth()
            await client.socket.close()
            await edge.announce("missed", "user:user_1")
            back, _ = await edge.auth(resume=answer["cursor"])
            assert await texts(back, 1) == ["missed"]

    on_both_loops(scenario)


def test_a_cursor_of_another_process_is_answered_with_resync_and_then_live_events() -> None:
    async def scenario() -> None:
        async with Edge() as before:
            _, answer = await before.auth()
        async with Edge() as edge:
            client, success = await edge.auth(resume=answer["cursor"])
            assert success["type"] == "auth_success"
            assert await client.hear() == {"type": "resync"}
            await edge.announce("live", "user:user_1")
            assert await texts(client, 1) == ["live"]

    on_both_loops(scenario)


def test_a_cursor_that_history_no_longer_reaches_is_answered_with_resync() -> None:
    async def scenario() -> None:
        async with Edge() as edge:
            _, answer = await edge.auth()
            await edge.hub.publish([Event("a", ("elsewhere",), {"n": n}) for n in range(1001)])
            client, _ = await edge.auth(resume=answer["cursor"])
            assert await client.hear() == {"type": "resync"}

    on_both_loops(scenario)


def test_a_cursor_of_another_tenant_is_answered_with_resync_and_shows_nothing_of_it() -> None:
    async def scenario() -> None:
        async with Edge() as edge:
            _, answer = await edge.auth("user_1", "b")
            await edge.announce("for b", "user:user_1", tenant="b")
            client, _ = await edge.auth("user_1", "a", resume=answer["cursor"])
            assert await client.hear() == {"type": "resync"}
            await client.hear_nothing_but_pong()

    on_both_loops(scenario)


def test_without_resume_there_is_neither_replay_nor_resync() -> None:
    async def scenario() -> None:
        async with Edge() as edge:
            await edge.announce("past", "user:user_1")
            client = await edge.sign_in()
            await client.hear_nothing_but_pong()

    on_both_loops(scenario)


def test_events_published_while_clients_reconnect_reach_each_exactly_once() -> None:
    total = 300

    async def publish(edge: Edge) -> None:
        for number in range(total):
            await edge.announce(str(number), "user:user_1")
            await asyncio.sleep(0.001)

    async def follow(edge: Edge) -> list[str]:
        client, answer = await edge.auth()
        cursor, heard = answer["cursor"], list[str]()
        while len(heard) < total:
            for _ in range(min(7, total - len(heard))):
                message = await client.hear()
                heard.append(message["data"]["text"])
                cursor = message["cursor"]
            await client.socket.close()
            client, answer = await edge.auth(resume=cursor)
            assert answer["type"] == "auth_success"
        return heard

    async def scenario() -> None:
        async with Edge() as edge:
            followers = [asyncio.create_task(follow(edge)) for _ in range(4)]
            await asyncio.sleep(0.1)
            first = asyncio.create_task(publish(edge))
            for heard in await asyncio.gather(*followers):
                assert heard == [str(number) for number in range(total)]
            await first

    on_both_loops(scenario)


def test_replaying_a_full_history_does_not_count_as_being_slow() -> None:
    async def scenario() -> None:
        async with Edge() as edge:
            _, answer = await edge.auth()
            event = Event("a", ("user:user_1",), {"data": {"text": "x" * 20_000}})
            await edge.hub.publish([event] * 12)
            client, _ = await edge.auth(resume=answer["cursor"])
            for _ in range(12):
                assert len((await client.hear())["data"]["text"]) == 20_000
            await client.hear_nothing_but_pong()

    on_both_loops(scenario)
