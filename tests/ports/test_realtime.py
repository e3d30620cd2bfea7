"""What every ``Hub`` promises."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from yuanlian.kit.realtime.hub import Event, Hub
from yuanlian.kit.realtime.memory import MemoryHub


def plain_json(message: dict[str, Any]) -> bytes:
    return json.dumps(message).encode()


HUBS: dict[str, Callable[[], Hub]] = {"memory": lambda: MemoryHub(plain_json)}


@pytest.fixture(params=list(HUBS))
def make_hub(request: pytest.FixtureRequest) -> Callable[[], Hub]:
    return HUBS[request.param]


class Listener:
    """A subscriber that remembers."""

    def __init__(self, tenant_id: str = "a", user_id: str = "user_1") -> None:
        self.tenant_id = tenant_id
        self.user_id = user_id
        self.messages: list[dict[str, Any]] = []
        self.frames: list[bytes] = []
        self.cursors: list[str] = []
        self.closed: list[int] = []

    def deliver(self, frame: bytes, cursor: str) -> None:
        self.frames.append(frame)
        self.messages.append(json.loads(frame))
        self.cursors.append(cursor)

    def close(self, code: int) -> None:
        self.closed.append(code)

    @property
    def numbers(self) -> list[int]:
        return [message["n"] for message in self.messages]


def event(n: int, *channels: str, tenant: str = "a") -> Event:
    return Event(tenant, channels or ("tenant",), {"type": "counted", "n": n})


def test_an_event_reaches_the_followers_of_its_channel_with_tenant_and_cursor(
    make_hub: Callable[[], Hub],
) -> None:
    async def scenario() -> None:
        hub, listener, other = make_hub(), Listener(), Listener()
        hub.attach(listener, ["class:1"])
        hub.attach(other, ["class:2"])
        await hub.publish([event(1, "class:1")])
        assert listener.messages == [
            {"type": "counted", "n": 1, "tenantId": "a", "cursor": listener.cursors[0]}
        ]
        assert other.messages == []

    asyncio.run(scenario())


def test_a_follower_of_several_channels_of_an_event_gets_it_once(make_hub: Callable[[], Hub]) -> None:
    async def scenario() -> None:
        hub, listener = make_hub(), Listener()
        hub.attach(listener, ["class:1", "student:1", "tenant"])
        await hub.publish([event(1, "class:1", "student:1", "tenant", "user:9")])
        assert listener.numbers == [1]

    asyncio.run(scenario())


def test_an_event_is_encoded_once_for_all(make_hub: Callable[[], Hub]) -> None:
    async def scenario() -> None:
        hub, first, second = make_hub(), Listener(), Listener()
        hub.attach(first, ["tenant"])
        hub.attach(second, ["tenant"])
        await hub.publish([event(1)])
        assert first.frames[0] is second.frames[0]

    asyncio.run(scenario())


def test_equal_channel_names_of_two_tenants_are_different_channels(make_hub: Callable[[], Hub]) -> None:
    async def scenario() -> None:
        hub, ours, theirs = make_hub(), Listener("a"), Listener("b")
        hub.attach(ours, ["tenant", "class:1", "user:user_1"])
        hub.attach(theirs, ["tenant", "class:1", "user:user_1"])
        await hub.publish([event(1, "tenant", "class:1", "user:user_1", tenant="b")])
        assert ours.messages == []
        assert theirs.numbers == [1]

    asyncio.run(scenario())


def test_a_tenant_whose_id_looks_like_part_of_a_channel_is_still_another(make_hub: Callable[[], Hub]) -> None:
    async def scenario() -> None:
        hub, listener = make_hub(), Listener("a:class")
        hub.attach(listener, ["1", "tenant"])
        await hub.publish([event(1, "class:1", tenant="a"), event(2, "a:class:1", tenant="")])
        assert listener.messages == []

    asyncio.run(scenario())


def test_concurrent_publishers_deliver_in_the_order_of_cursors(make_hub: Callable[[], Hub]) -> None:
    async def scenario() -> None:
        hub, listeners = make_hub(), [Listener() for _ in range(500)]
        for listener in listeners:
            hub.attach(listener, ["tenant"])
        batches = [[event(batch * 100 + n) for n in range(20)] for batch in range(5)]
        await asyncio.gather(*(hub.publish(batch) for batch in batches))
        sequences = [int(cursor.rpartition("-")[2]) for cursor in listeners[0].cursors]
        assert sequences == sorted(sequences)
        assert all(listener.cursors == listeners[0].cursors for listener in listeners)
        assert len(sequences) == 100

    asyncio.run(scenario())


def test_subscribing_later_starts_from_there_and_unsubscribing_ends_it(make_hub: Callable[[], Hub]) -> None:
    async def scenario() -> None:
        hub, listener = make_hub(), Listener()
        hub.attach(listener, [])
        await hub.publish([event(1)])
        hub.subscribe(listener, "tenant")
        await hub.publish([event(2)])
        hub.unsubscribe(listener, "tenant")
        await hub.publish([event(3)])
        assert listener.numbers == [2]

    asyncio.run(scenario())


def test_a_detached_subscriber_hears_nothing_and_detaching_twice_is_harmless(
    make_hub: Callable[[], Hub],
) -> None:
    async def scenario() -> None:
        hub, listener = make_hub(), Listener()
        hub.attach(listener, ["tenant"])
        hub.detach(listener)
        hub.detach(listener)
        hub.unsubscribe(listener, "tenant")
        await hub.publish([event(1)])
        await hub.close_user("a", "user_1", 4401)
        assert listener.messages == []
        assert listener.closed == []

    asyncio.run(scenario())


def test_a_subscriber_may_detach_itself_and_others_while_it_is_delivered_to(
    make_hub: Callable[[], Hub],
) -> None:
    class Leaver(Listener):
        def deliver(self, frame: bytes, cursor: str) -> None:
            super().deliver(frame, cursor)
            hub.detach(self)

    async def scenario() -> None:
        leavers = [Leaver() for _ in range(10)]
        for leaver in leavers:
            hub.attach(leaver, ["tenant"])
        await hub.publish([event(1), event(2)])
        assert [leaver.numbers for leaver in leavers] == [[1]] * 10

    hub = make_hub()
    asyncio.run(scenario())


def test_replay_delivers_what_was_missed_on_the_followed_channels_in_order(
    make_hub: Callable[[], Hub],
) -> None:
    async def scenario() -> None:
        hub, before = make_hub(), Listener()
        hub.attach(before, ["class:1", "class:2"])
        await hub.publish([event(1, "class:1"), event(2, "class:2")])
        seen = before.cursors[0]
        hub.detach(before)
        await hub.publish([event(3, "class:3"), event(4, "class:1", "class:2"), event(5, "class:2")])
        after = Listener()
        hub.attach(after, ["class:1", "class:2"])
        assert hub.replay(after, seen)
        await hub.publish([event(6, "class:1")])
        assert after.numbers == [2, 4, 5, 6]
        assert after.cursors == [message["cursor"] for message in after.messages]

    asyncio.run(scenario())


def test_the_newest_cursor_replays_nothing(make_hub: Callable[[], Hub]) -> None:
    async def scenario() -> None:
        hub, listener = make_hub(), Listener()
        cursor = hub.attach(listener, ["tenant"])
        assert hub.replay(listener, cursor)
        await hub.publish([event(1)])
        assert hub.replay(listener, listener.cursors[0])
        assert listener.numbers == [1]

    asyncio.run(scenario())


def test_the_cursor_taken_before_a_snapshot_resumes_after_it(make_hub: Callable[[], Hub]) -> None:
    async def scenario() -> None:
        hub, listener = make_hub(), Listener()
        cursor = await hub.cursor("a")
        await hub.publish([event(1)])
        assert await hub.cursor("a") != cursor
        hub.attach(listener, ["tenant"])
        assert hub.replay(listener, cursor)
        assert listener.numbers == [1]

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "cursor",
    ["", "-", "x", "0-0", "-1", "zz-1", "{epoch}-", "{epoch}--1", "{epoch}-２", "{epoch}-" + "9" * 5000],
)
def test_a_cursor_that_is_not_ours_is_not_replayed(make_hub: Callable[[], Hub], cursor: str) -> None:
    async def scenario() -> None:
        hub, listener = make_hub(), Listener()
        epoch = hub.attach(listener, ["tenant"]).partition("-")[0]
        await hub.publish([event(1), event(2), event(3)])
        heard = len(listener.messages)
        assert not hub.replay(listener, cursor.replace("{epoch}", epoch))
        assert len(listener.messages) == heard

    asyncio.run(scenario())


def test_a_cursor_from_the_future_is_not_replayed(make_hub: Callable[[], Hub]) -> None:
    async def scenario() -> None:
        hub, listener = make_hub(), Listener()
        epoch = hub.attach(listener, ["tenant"]).partition("-")[0]
        assert not hub.replay(listener, f"{epoch}-1")

    asyncio.run(scenario())


def test_a_cursor_of_another_tenant_or_from_before_a_restart_is_not_replayed(
    make_hub: Callable[[], Hub],
) -> None:
    async def scenario() -> None:
        hub, listener = make_hub(), Listener("b")
        cursor = await hub.cursor("a")
        hub.attach(listener, ["tenant"])
        await hub.publish([event(1, tenant="a"), event(2, tenant="b")])
        assert not hub.replay(listener, cursor)
        restarted, again = make_hub(), Listener("a")
        restarted.attach(again, ["tenant"])
        assert not restarted.replay(again, cursor)
        assert listener.numbers == [2]

    asyncio.run(scenario())


def test_closing_a_user_ends_their_connections_in_that_tenant_only(make_hub: Callable[[], Hub]) -> None:
    async def scenario() -> None:
        hub = make_hub()
        one, two = Listener("a", "u"), Listener("a", "u")
        colleague, elsewhere = Listener("a", "v"), Listener("b", "u")
        for listener in (one, two, colleague, elsewhere):
            hub.attach(listener, [])
        await hub.close_user("a", "u", 4403)
        await hub.close_user("nobody", "u", 4403)
        assert (one.closed, two.closed, colleague.closed, elsewhere.closed) == ([4403], [4403], [], [])

    asyncio.run(scenario())
