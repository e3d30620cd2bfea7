"""What is heard on ``/ws``. CONTRACT §7."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.websocket import Edge, on_both_loops


def test_default_channels_and_the_own_one_are_followed_without_asking() -> None:
    async def scenario() -> None:
        async with Edge() as edge:
            edge.service.follows["user_1"] = ["class:1", "class:2"]
            client = await edge.sign_in("user_1")
            await edge.announce("no", "class:3", "user:user_2", "tenant")
            await edge.announce("one", "class:1", "class:2")
            await edge.announce("two", "user:user_1")
            one, two = await client.hear(), await client.hear()
            assert one == {
                "type": "notification",
                "data": {"text": "one"},
                "tenantId": "a",
                "cursor": one["cursor"],
            }
            assert two["data"] == {"text": "two"}
            await client.hear_nothing_but_pong()

    on_both_loops(scenario)


def test_events_of_one_tenant_never_reach_another_whatever_the_channels_are_called() -> None:
    async def scenario() -> None:
        async with Edge() as edge:
            edge.service.follows["user_1"] = ["tenant", "class:1"]
            ours, theirs = await edge.sign_in("user_1", "a"), await edge.sign_in("user_1", "b")
            await edge.announce("for b", "tenant", "class:1", "user:user_1", tenant="b")
            assert (await theirs.hear())["tenantId"] == "b"
            await ours.hear_nothing_but_pong()

    on_both_loops(scenario)


def test_the_tenant_service_decides_about_subscriptions() -> None:
    async def scenario() -> None:
        async with Edge() as edge:
            edge.service.may_follow["user_1"] = {"class:1"}
            client = await edge.sign_in("user_1")
            await edge.announce("before", "class:1")
            await client.say({"type": "subscribe", "channel": "class:1"})
            answer = await client.hear()
            assert answer == {
                "type": "subscribed",
                "channel": "class:1",
                "cursor": await edge.hub.cursor("a"),
            }
            await client.say({"type": "subscribe", "channel": "class:2"})
            refusal = await client.hear()
            assert refusal == {"type": "error", "code": 403, "message": "权限不足", "channel": "class:2"}
            await edge.announce("two", "class:2")
            await edge.announce("one", "class:1")
            assert (await client.hear())["data"]["text"] == "one"

    on_both_loops(scenario)


def test_unsubscribing_ends_what_was_followed() -> None:
    async def scenario() -> None:
        async with Edge() as edge:
            edge.service.follows["user_1"] = ["class:1"]
            client = await edge.sign_in("user_1")
            for channel in ("class:1", "user"):
                await client.say({"type": "unsubscribe", "channel": channel})
                assert await client.hear() == {"type": "unsubscribed", "channel": channel}
            await edge.announce("one", "class:1", "user:user_1")
            await client.hear_nothing_but_pong()
            await client.say({"type": "subscribe", "channel": "user"})
            assert (await client.hear())["type"] == "subscribed"
            await edge.announce("two", "user:user_1")
            assert (await client.hear())["data"]["text"] == "two"

    on_both_loops(scenario)


@pytest.mark.parametrize("word", ["subscribe", "unsubscribe"])
def test_the_channel_of_another_user_is_refused_without_asking_anybody(word: str) -> None:
    async def scenario() -> None:
        async with Edge() as edge:
            edge.service.may_follow["user_1"] = {"user:user_2"}
            client = await edge.sign_in("user_1")
            asked = edge.service.asked
            await client.say({"type": word, "channel": "user:user_2"})
            answer = await client.hear()
            assert (answer["type"], answer["code"], answer["channel"]) == ("error", 403, "user:user_2")
            assert edge.service.asked == asked

    on_both_loops(scenario)


def test_a_tenant_service_that_names_somebody_elses_channel_is_not_believed() -> None:
    async def scenario() -> None:
        async with Edge() as edge:
            edge.service.follows["user_1"] = ["user:user_2", "class:1"]
            client = await edge.sign_in("user_1")
            await edge.announce("for two", "user:user_2")
            await client.hear_nothing_but_pong()

    on_both_loops(scenario)


@pytest.mark.parametrize("timestamp", [1701234567890, 0, -1, 1.5, None])
def test_a_ping_is_answered_with_its_own_timestamp(timestamp: Any) -> None:
    async def scenario() -> None:
        async with Edge() as edge:
            client = await edge.sign_in()
            await client.say({"type": "ping", "timestamp": timestamp})
            assert await client.hear() == {"type": "pong", "timestamp": timestamp}

    on_both_loops(scenario)


@pytest.mark.parametrize(
    "frame",
    [
        "{",
        b"\x00\x01",
        {"type": "dance"},
        {"type": "subscribe"},
        {"type": "subscribe", "channel": ""},
        {"type": "subscribe", "channel": "c" * 129},
        {"type": "ping", "timestamp": "now"},
        [],
    ],
    ids=lambda frame: str(frame)[:40],
)
def test_a_malformed_frame_is_answered_with_an_error_and_the_connection_goes_on(frame: Any) -> None:
    async def scenario() -> None:
        async with Edge() as edge:
            client = await edge.sign_in()
            await client.say(frame)
            assert await client.hear() == {"type": "error", "code": 400, "message": "消息格式错误"}
            await client.hear_nothing_but_pong()

    on_both_loops(scenario)


def test_too_many_malformed_frames_end_the_connection() -> None:
    async def scenario() -> None:
        async with Edge(max_malformed=3) as edge:
            client = await edge.sign_in()
            for _ in range(3):
                await client.say("?")
            assert await client.closed_with() == 1008

    on_both_loops(scenario)


def test_a_connection_follows_a_limited_number_of_channels() -> None:
    async def scenario() -> None:
        async with Edge(max_channels=2) as edge:
            edge.service.may_follow["user_1"] = {"class:1", "class:2"}
            client = await edge.sign_in("user_1")
            await client.say({"type": "subscribe", "channel": "class:1"})
            assert (await client.hear())["type"] == "subscribed"
            await client.say({"type": "subscribe", "channel": "class:2"})
            answer = await client.hear()
            assert (answer["type"], answer["code"]) == ("error", 429)
            await client.say({"type": "unsubscribe", "channel": "class:1"})
            await client.hear()
            await client.say({"type": "subscribe", "channel": "class:2"})
            assert (await client.hear())["type"] == "subscribed"

    on_both_loops(scenario)
