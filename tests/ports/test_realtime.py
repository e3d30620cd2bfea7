"""What every ``Hub`` promises."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import structlog
from tests.support import servers

from deploy.servers.redis import Redis as RedisServer
from yuanlian.kit.channels import Channels
from yuanlian.kit.errors import DependencyAwayError, ServiceUnavailableError
from yuanlian.kit.realtime import closings
from yuanlian.kit.realtime.hub import Event, Hub
from yuanlian.kit.realtime.memory import MemoryHub
from yuanlian.kit.realtime.redis import _PUBLISH, RedisHub, _channel, _keys
from yuanlian.kit.redis import Redis, RedisAwayError
from yuanlian.kit.redis_scripts import Script


def plain_json(message: dict[str, Any]) -> bytes:
    return json.dumps(message).encode()


TENANTS = ("a", "b", "a:class", "")
_SETTLED = Script("return redis.call('PUBLISH', 'settled', '')")


class Settled:
    """A hub over Redis whose ``publish`` and ``close_user`` return when this process has heard of it."""

    def __init__(self, url: str) -> None:
        self.redis = Redis(url, timeout_s=servers.PATIENCE_S)
        self.channels = Channels(self.redis)
        self.hub = RedisHub(self.redis, self.channels, plain_json)
        self._heard: asyncio.Queue[bytes] = asyncio.Queue()

    async def start(self) -> None:
        await self.hub.start()
        await self.channels.start()
        open_ = asyncio.Event()
        self.channels.listen("settled", self._heard.put_nowait, on_open=open_.set)
        await asyncio.wait_for(open_.wait(), 10)
        for tenant in TENANTS:
            await self.hub.ready(tenant)

    async def stop(self) -> None:
        await self.hub.stop()
        await self.channels.stop()
        await self.redis.close()

    async def publish(self, events: Sequence[Event]) -> None:
        await self.hub.publish(events)
        await self.settle()

    async def close_user(self, tenant_id: str, user_id: str, code: int) -> None:
        await self.hub.close_user(tenant_id, user_id, code)
        while self.hub._closings.owed:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.02)
        await self.settle()

    async def settle(self) -> None:
        """What a server says last is heard last, from that server: in a cluster, every tenant has its own."""
        for tenant in TENANTS:
            await self.redis.run(_SETTLED, _keys(tenant), [])
        for _ in TENANTS:
            await asyncio.wait_for(self._heard.get(), 10)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.hub, name)


class Stage:
    """Makes hubs as one process after the other would, and takes them down."""

    def __init__(self, url: Callable[[], str] | None) -> None:
        self.url = url() if url is not None else None
        self._settled: list[Settled] = []

    async def hub(self) -> Hub:
        if self.url is None:
            return MemoryHub(plain_json)
        settled = Settled(self.url)
        self._settled.append(settled)
        await settled.start()
        hub: Hub = settled
        return hub

    async def forget(self) -> None:
        """What a restart of everything would lose."""
        for settled in self._settled:
            await settled.redis.execute("FLUSHALL")

    def run(self, scenario: Callable[[], Awaitable[None]]) -> None:
        async def whole() -> None:
            try:
                await scenario()
            finally:
                for settled in self._settled:
                    await settled.stop()

        asyncio.run(whole())


URLS: dict[str, Callable[[], str] | None] = {
    "memory": None,
    "redis": lambda: servers.redis().url,
    "redis cluster": lambda: servers.redis_cluster().url,
}


@pytest.fixture(params=list(URLS))
def stage(request: pytest.FixtureRequest) -> Stage:
    return Stage(URLS[request.param])


@pytest.fixture(params=["redis", "redis cluster"])
def shared_stage(request: pytest.FixtureRequest) -> Stage:
    return Stage(URLS[request.param])


class Listener:
    """A subscriber that remembers."""

    def __init__(self, tenant_id: str = "a", user_id: str = "user_1") -> None:
        self.tenant_id = tenant_id
        self.user_id = user_id
        self.messages: list[dict[str, Any]] = []
        self.frames: list[bytes] = []
        self.cursors: list[str] = []
        self.closed: list[int] = []
        self.resyncs = 0

    def deliver(self, frame: bytes, cursor: str) -> None:
        self.frames.append(frame)
        self.messages.append(json.loads(frame))
        self.cursors.append(cursor)

    def close(self, code: int) -> None:
        self.closed.append(code)

    def resync(self) -> None:
        self.resyncs += 1

    @property
    def numbers(self) -> list[int]:
        return [message["n"] for message in self.messages]


def event(n: int, *channels: str, tenant: str = "a") -> Event:
    return Event(tenant, channels or ("tenant",), {"type": "counted", "n": n})


def test_an_event_reaches_the_followers_of_its_channel_with_tenant_and_cursor(stage: Stage) -> None:
    async def scenario() -> None:
        hub, listener, other = await stage.hub(), Listener(), Listener()
        hub.attach(listener, ["class:1"])
        hub.attach(other, ["class:2"])
        await hub.publish([event(1, "class:1")])
        assert listener.messages == [
            {"type": "counted", "n": 1, "tenantId": "a", "cursor": listener.cursors[0]}
        ]
        assert other.messages == []

    stage.run(scenario)


def test_a_follower_of_several_channels_of_an_event_gets_it_once(stage: Stage) -> None:
    async def scenario() -> None:
        hub, listener = await stage.hub(), Listener()
        hub.attach(listener, ["class:1", "student:1", "tenant"])
        await hub.publish([event(1, "class:1", "student:1", "tenant", "user:9")])
        assert listener.numbers == [1]

    stage.run(scenario)


def test_an_event_is_encoded_once_for_all(stage: Stage) -> None:
    async def scenario() -> None:
        hub, first, second = await stage.hub(), Listener(), Listener()
        hub.attach(first, ["tenant"])
        hub.attach(second, ["tenant"])
        await hub.publish([event(1)])
        assert first.frames[0] is second.frames[0]

    stage.run(scenario)


def test_equal_channel_names_of_two_tenants_are_different_channels(stage: Stage) -> None:
    async def scenario() -> None:
        hub, ours, theirs = await stage.hub(), Listener("a"), Listener("b")
        hub.attach(ours, ["tenant", "class:1", "user:user_1"])
        hub.attach(theirs, ["tenant", "class:1", "user:user_1"])
        await hub.publish([event(1, "tenant", "class:1", "user:user_1", tenant="b")])
        assert ours.messages == []
        assert theirs.numbers == [1]

    stage.run(scenario)


def test_a_tenant_whose_id_looks_like_part_of_a_channel_is_still_another(stage: Stage) -> None:
    async def scenario() -> None:
        hub, listener = await stage.hub(), Listener("a:class")
        hub.attach(listener, ["1", "tenant"])
        await hub.publish([event(1, "class:1", tenant="a"), event(2, "a:class:1", tenant="")])
        assert listener.messages == []

    stage.run(scenario)


def test_concurrent_publishers_deliver_in_the_order_of_cursors(stage: Stage) -> None:
    async def scenario() -> None:
        hub, listeners = await stage.hub(), [Listener() for _ in range(500)]
        for listener in listeners:
            hub.attach(listener, ["tenant"])
        batches = [[event(batch * 100 + n) for n in range(20)] for batch in range(5)]
        await asyncio.gather(*(hub.publish(batch) for batch in batches))
        sequences = [int(cursor.rpartition("-")[2]) for cursor in listeners[0].cursors]
        assert sequences == sorted(sequences)
        assert all(listener.cursors == listeners[0].cursors for listener in listeners)
        assert len(sequences) == 100

    stage.run(scenario)


def test_subscribing_later_starts_from_there_and_unsubscribing_ends_it(stage: Stage) -> None:
    async def scenario() -> None:
        hub, listener = await stage.hub(), Listener()
        hub.attach(listener, [])
        await hub.publish([event(1)])
        hub.subscribe(listener, "tenant")
        await hub.publish([event(2)])
        hub.unsubscribe(listener, "tenant")
        await hub.publish([event(3)])
        assert listener.numbers == [2]

    stage.run(scenario)


def test_tenants_that_begin_in_one_batch_do_not_share_cursors(stage: Stage) -> None:
    async def scenario() -> None:
        hub = await stage.hub()
        await stage.forget()
        await hub.publish([event(1, tenant="a"), event(2, tenant="b")])
        assert await hub.cursor("a") != await hub.cursor("b")

    stage.run(scenario)


def test_a_detached_subscriber_hears_nothing_and_detaching_twice_is_harmless(stage: Stage) -> None:
    async def scenario() -> None:
        hub, listener = await stage.hub(), Listener()
        hub.attach(listener, ["tenant"])
        hub.detach(listener)
        hub.detach(listener)
        hub.unsubscribe(listener, "tenant")
        await hub.publish([event(1)])
        await hub.close_user("a", "user_1", 4401)
        assert listener.messages == []
        assert listener.closed == []

    stage.run(scenario)


def test_a_subscriber_may_detach_itself_and_others_while_it_is_delivered_to(stage: Stage) -> None:
    async def scenario() -> None:
        hub = await stage.hub()

        class Leaver(Listener):
            def deliver(self, frame: bytes, cursor: str) -> None:
                super().deliver(frame, cursor)
                hub.detach(self)

        leavers = [Leaver() for _ in range(10)]
        for leaver in leavers:
            hub.attach(leaver, ["tenant"])
        await hub.publish([event(1), event(2)])
        assert [leaver.numbers for leaver in leavers] == [[1]] * 10

    stage.run(scenario)


def test_replay_delivers_what_was_missed_on_the_followed_channels_in_order(stage: Stage) -> None:
    async def scenario() -> None:
        hub, before = await stage.hub(), Listener()
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

    stage.run(scenario)


def test_the_newest_cursor_replays_nothing(stage: Stage) -> None:
    async def scenario() -> None:
        hub, listener = await stage.hub(), Listener()
        cursor = hub.attach(listener, ["tenant"])
        assert hub.replay(listener, cursor)
        await hub.publish([event(1)])
        assert hub.replay(listener, listener.cursors[0])
        assert listener.numbers == [1]

    stage.run(scenario)


def test_the_cursor_taken_before_a_snapshot_resumes_after_it(stage: Stage) -> None:
    async def scenario() -> None:
        hub, listener = await stage.hub(), Listener()
        cursor = await hub.cursor("a")
        await hub.publish([event(1)])
        assert await hub.cursor("a") != cursor
        hub.attach(listener, ["tenant"])
        assert hub.replay(listener, cursor)
        assert listener.numbers == [1]

    stage.run(scenario)


@pytest.mark.parametrize(
    "cursor",
    ["", "-", "x", "0-0", "-1", "zz-1", "{epoch}-", "{epoch}--1", "{epoch}-２", "{epoch}-" + "9" * 5000],
)
def test_a_cursor_that_is_not_ours_is_not_replayed(stage: Stage, cursor: str) -> None:
    async def scenario() -> None:
        hub, listener = await stage.hub(), Listener()
        epoch = hub.attach(listener, ["tenant"]).partition("-")[0]
        await hub.publish([event(1), event(2), event(3)])
        heard = len(listener.messages)
        assert not hub.replay(listener, cursor.replace("{epoch}", epoch))
        assert len(listener.messages) == heard

    stage.run(scenario)


def test_a_cursor_from_the_future_is_not_replayed(stage: Stage) -> None:
    async def scenario() -> None:
        hub, listener = await stage.hub(), Listener()
        epoch = hub.attach(listener, ["tenant"]).partition("-")[0]
        assert not hub.replay(listener, f"{epoch}-1")

    stage.run(scenario)


def test_a_cursor_of_another_tenant_or_from_before_a_restart_is_not_replayed(stage: Stage) -> None:
    async def scenario() -> None:
        hub, listener = await stage.hub(), Listener("b")
        cursor = await hub.cursor("a")
        hub.attach(listener, ["tenant"])
        await hub.publish([event(1, tenant="a"), event(2, tenant="b")])
        assert not hub.replay(listener, cursor)
        await stage.forget()
        restarted, again = await stage.hub(), Listener("a")
        restarted.attach(again, ["tenant"])
        assert not restarted.replay(again, cursor)
        assert listener.numbers == [2]

    stage.run(scenario)


def test_closing_a_user_ends_their_connections_in_that_tenant_only(stage: Stage) -> None:
    async def scenario() -> None:
        hub = await stage.hub()
        one, two = Listener("a", "u"), Listener("a", "u")
        colleague, elsewhere = Listener("a", "v"), Listener("b", "u")
        for listener in (one, two, colleague, elsewhere):
            hub.attach(listener, [])
        await hub.close_user("a", "u", 4403)
        await hub.close_user("nobody", "u", 4403)
        assert (one.closed, two.closed, colleague.closed, elsewhere.closed) == ([4403], [4403], [], [])

    stage.run(scenario)


# --- several processes ------------------------------------------------------------------------


async def until(condition: Callable[[], bool], within_s: float = 15.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


def test_an_event_reaches_followers_in_every_process_in_one_order(shared_stage: Stage) -> None:
    async def scenario() -> None:
        hubs = [await shared_stage.hub() for _ in range(3)]
        listeners = [Listener() for _ in hubs]
        for hub, listener in zip(hubs, listeners, strict=True):
            hub.attach(listener, ["tenant"])
        batches = [[event(batch * 100 + n) for n in range(20)] for batch in range(6)]
        await asyncio.gather(*(hubs[i % 3].publish(batch) for i, batch in enumerate(batches)))
        await until(lambda: all(len(listener.numbers) == 120 for listener in listeners))
        assert listeners[0].cursors == listeners[1].cursors == listeners[2].cursors
        assert listeners[0].numbers == listeners[1].numbers

    shared_stage.run(scenario)


def test_a_client_resumes_in_a_process_that_never_saw_it(shared_stage: Stage) -> None:
    async def scenario() -> None:
        first, before = await shared_stage.hub(), Listener()
        first.attach(before, ["tenant"])
        await first.publish([event(1), event(2)])
        second, after = await shared_stage.hub(), Listener()
        await first.publish([event(3)])
        await until(lambda: second._local.position("a") == first._local.position("a"))  # type: ignore[attr-defined]
        second.attach(after, ["tenant"])
        assert second.replay(after, before.cursors[0])
        assert after.numbers == [2, 3]

    shared_stage.run(scenario)


@pytest.mark.parametrize("garbage", [b"", b"{", b"[]", b'[["tenant"], 5]', b"\xff"])
def test_an_event_that_nobody_understands_holds_up_none(shared_stage: Stage, garbage: bytes) -> None:
    async def scenario() -> None:
        here, listener = await shared_stage.hub(), Listener()
        here.attach(listener, ["tenant"])
        await here.publish([event(1)])
        redis = here.redis  # type: ignore[attr-defined]
        await redis.run(_PUBLISH, _keys("a"), ["epoch", _channel("a"), 500, 3600, garbage])
        await here.publish([event(2)])
        await until(lambda: listener.numbers == [1, 2])
        assert listener.resyncs == 0
        newcomer, later = await shared_stage.hub(), Listener()
        newcomer.attach(later, ["tenant"])
        assert newcomer.replay(later, listener.cursors[0])
        assert later.numbers == [2]

    shared_stage.run(scenario)


def test_closing_a_user_reaches_every_process(shared_stage: Stage) -> None:
    async def scenario() -> None:
        here, there, listener = await shared_stage.hub(), await shared_stage.hub(), Listener("a", "u")
        there.attach(listener, [])
        await here.close_user("a", "u", 4403)
        await until(lambda: listener.closed == [4403])

    shared_stage.run(scenario)


# --- faults -----------------------------------------------------------------------------------


@pytest.fixture
def own_stage(tmp_path: Path) -> Any:
    """With a Redis that the test may stop."""
    servers.need(RedisServer)
    server = RedisServer(tmp_path / "redis")
    server.start()
    stage = Stage(lambda: server.url)
    stage.server = server  # type: ignore[attr-defined]
    yield stage
    server.resume() if server.process else None
    server.stop()


def test_a_lost_connection_costs_no_event(own_stage: Any) -> None:
    """Only one process is cut off; others go on publishing."""

    async def scenario() -> None:
        hub, other, listener = await own_stage.hub(), await own_stage.hub(), Listener()
        hub.attach(listener, ["tenant"])
        await other.publish([event(1)])
        await until(lambda: listener.numbers == [1])
        for number in range(2, 12):
            own_stage.server.ask("CLIENT", "KILL", "TYPE", "pubsub")
            await other.hub.publish([event(number)])
        await until(lambda: len(listener.numbers) >= 11)
        assert listener.numbers == list(range(1, 12))
        assert listener.resyncs == 0

    own_stage.run(scenario)


def test_while_redis_is_away_publishing_fails_and_followers_read_anew_afterwards(own_stage: Any) -> None:
    async def scenario() -> None:
        hub, listener = await own_stage.hub(), Listener()
        hub.attach(listener, ["tenant"])
        await hub.publish([event(1)])
        own_stage.server.kill()
        with pytest.raises(RedisAwayError):
            await hub.hub.publish([event(2)])
        assert await hub.cursor("a") == "0-0"
        own_stage.server.start()  # with nothing in it
        await until(lambda: listener.resyncs == 1)
        await until(lambda: hub.channels.connected)
        await hub.publish([event(3)])
        await until(lambda: listener.numbers == [1, 3])

    own_stage.run(scenario)


def test_what_is_owed_while_redis_is_away_is_bounded_and_told_when_it_is_back(
    own_stage: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(closings, "MOST_OWED", 3)

    async def scenario() -> None:
        here, there = await own_stage.hub(), await own_stage.hub()
        near, far = ([Listener("a", f"u{n}") for n in range(5)] for _ in range(2))
        for hub, listeners in ((here, near), (there, far)):
            for listener in listeners:
                hub.attach(listener, [])
        own_stage.server.kill()
        with structlog.testing.capture_logs() as logs:
            for n in (0, 1, 2, 2, 2, 3, 4):
                await here.hub.close_user("a", f"u{n}", 4403)
            assert here.hub._closings.owed == 3
            assert far[4].closed == []
            await until(lambda: all(listener.closed for listener in near[2:]))
            own_stage.server.start()
            await until(lambda: not here.hub._closings.owed)
            await until(lambda: all(listener.closed for listener in far[2:]))
        dropped = [log["closings"] for log in logs if "are not told" in log["event"]]
        assert dropped == [2]

    own_stage.run(scenario)


def test_a_closing_is_done_here_at_once_and_once_while_redis_is_away(own_stage: Any) -> None:
    async def scenario() -> None:
        hub = await own_stage.hub()
        first, second, third = Listener("a", "u"), Listener("a", "v"), Listener("a", "w")
        for listener in (first, second, third):
            hub.attach(listener, [])
        own_stage.server.kill()
        await hub.hub.close_user("a", "u", 4403)
        await hub.hub.close_user("a", "v", 4403)
        await until(lambda: bool(first.closed and second.closed))
        await hub.hub.close_user("a", "w", 4401)
        assert third.closed == [4401]
        await asyncio.sleep(3 * closings.RETRY_S)
        assert (first.closed, second.closed, third.closed) == ([4403], [4403], [4401])

    own_stage.run(scenario)


def test_a_closing_that_cannot_be_told_holds_up_none(shared_stage: Stage) -> None:
    async def scenario() -> None:
        hub, listener = await shared_stage.hub(), Listener("a", "u")
        hub.attach(listener, [])
        with structlog.testing.capture_logs() as logs:
            await hub.close_user("a", "\ud800", 4403)  # not to be written as JSON
            await hub.close_user("a", "u", 4403)
        assert listener.closed == [4403]
        assert [log["log_level"] for log in logs] == ["error"]

    shared_stage.run(scenario)


def test_a_closing_that_redis_refuses_is_told_when_it_no_longer_does(own_stage: Any) -> None:
    async def scenario() -> None:
        here, there, listener = await own_stage.hub(), await own_stage.hub(), Listener("a", "u")
        there.attach(listener, [])
        own_stage.server.ask("ACL", "SETUSER", "default", "-publish")
        await here.hub.close_user("a", "u", 4403)
        await asyncio.sleep(2 * closings.RETRY_S)
        assert listener.closed == []
        own_stage.server.ask("ACL", "SETUSER", "default", "+publish")
        await until(lambda: listener.closed == [4403])

    own_stage.run(scenario)


def test_a_flush_brings_followers_to_read_anew(own_stage: Any) -> None:
    async def scenario() -> None:
        hub, listener = await own_stage.hub(), Listener()
        hub.attach(listener, ["tenant"])
        await hub.publish([event(1), event(2)])
        own_stage.server.ask("FLUSHALL")
        await hub.hub.publish([event(3)])
        await until(lambda: listener.resyncs == 1)
        await hub.hub.publish([event(4)])
        await until(lambda: listener.numbers[-1] == 4)
        newcomer = Listener()
        hub.attach(newcomer, ["tenant"])
        assert hub.replay(newcomer, listener.cursors[-1])

    own_stage.run(scenario)


def test_numbers_given_again_after_a_failover_are_of_another_epoch(shared_stage: Stage) -> None:
    """What a master had told and not yet replicated when it failed: its successor knows neither the last
    numbers nor their events, and gives those numbers to others."""

    async def scenario() -> None:
        hub, listener = await shared_stage.hub(), Listener()
        hub.attach(listener, ["tenant"])
        await hub.publish([event(1), event(2), event(3)])
        seen = tuple(listener.cursors)
        await promoted(hub.redis, "a", 1)  # type: ignore[attr-defined]
        await hub.publish([event(12)])
        # What is published until the listener is told to read anew is not told besides.
        await until(lambda: listener.resyncs == 1)
        for number in (13, 14):
            await hub.publish([event(number)])
        await until(lambda: listener.numbers[-1:] == [14])
        assert listener.resyncs == 1
        assert not set(listener.cursors[3:]) & set(seen)
        await fresh_process_refuses(shared_stage, seen)

    shared_stage.run(scenario)


def test_what_redis_refuses_of_one_tenant_is_no_outage_and_reaches_the_others(shared_stage: Stage) -> None:
    """A queue waits for the end of an outage: for a key that is spoilt it would wait for ever."""

    async def scenario() -> None:
        hub, listener = await shared_stage.hub(), Listener()
        hub.attach(listener, ["tenant"])
        meta, _ = _keys("b")
        await hub.redis.execute("DEL", meta)  # type: ignore[attr-defined]
        await hub.redis.execute("SET", meta, "spoilt")  # type: ignore[attr-defined]
        with pytest.raises(ServiceUnavailableError) as refused:
            await hub.publish([event(1, tenant="b"), event(1), event(2)])
        assert not isinstance(refused.value, DependencyAwayError)
        await hub.settle()  # type: ignore[attr-defined]
        assert listener.numbers == [1, 2]

    shared_stage.run(scenario)


def test_a_failover_that_nobody_followed_leaves_no_old_cursor_good(shared_stage: Stage) -> None:
    async def scenario() -> None:
        before, listener = await shared_stage.hub(), Listener()
        before.attach(listener, ["tenant"])
        await before.publish([event(1), event(2), event(3)])
        await before.hub.stop()  # type: ignore[attr-defined]
        await promoted(before.redis, "a", 1)  # type: ignore[attr-defined]
        await before.hub.publish([event(12), event(13), event(14), event(15)])  # type: ignore[attr-defined]
        await fresh_process_refuses(shared_stage, listener.cursors)

    shared_stage.run(scenario)


def test_a_redis_that_came_back_from_an_old_snapshot_begins_a_new_epoch(own_stage: Any) -> None:
    async def scenario() -> None:
        hub, listener = await own_stage.hub(), Listener()
        hub.attach(listener, ["tenant"])
        await hub.publish([event(1)])
        own_stage.server.ask("SAVE")
        await hub.publish([event(2), event(3)])
        await hub.channels.stop()  # this process is late to hear again
        own_stage.server.kill()
        own_stage.server.start()
        redis = Redis(own_stage.url)
        other = RedisHub(redis, Channels(redis), plain_json)
        await other.publish([event(12), event(13), event(14)])
        await redis.close()
        assert (await hub.cursor("a")).partition("-")[0] != listener.cursors[0].partition("-")[0]
        await hub.channels.start()
        await until(lambda: listener.resyncs == 1)

    own_stage.run(scenario)


def test_a_master_that_is_one_again_without_a_restart_begins_a_new_epoch(
    own_stage: Any, tmp_path: Path
) -> None:
    """It gave its place to a replica that lacked its last events, and nobody asked that one."""
    master, replica = own_stage.server, RedisServer(tmp_path / "replica")

    async def scenario() -> None:
        await follows(replica, master)  # before anything else: its coming gives the master another id
        hub, listener = await own_stage.hub(), Listener()
        hub.attach(listener, ["tenant"])
        await hub.publish([event(1)])
        meta, _ = _keys("a")
        await until(lambda: replica.ask("HGET", meta, "sequence") == b"$1\r\n1\r\n")
        replica.ask("REPLICAOF", "NO", "ONE")
        await hub.publish([event(2), event(3)])
        assert (listener.numbers, listener.resyncs) == ([1, 2, 3], 0)
        await follows(master, replica)
        master.ask("REPLICAOF", "NO", "ONE")
        await hub.hub.publish([event(12)])
        await until(lambda: listener.resyncs == 1)
        await fresh_process_refuses(own_stage, listener.cursors)

    replica.start()
    try:
        own_stage.run(scenario)
    finally:
        replica.stop()


async def follows(follower: RedisServer, leader: RedisServer) -> None:
    """Returns when it has the leader's data."""
    leader.ask("CONFIG", "SET", "repl-diskless-sync-delay", "0")
    follower.ask("CONFIG", "SET", "masterauth", urlsplit(leader.url).password or "")
    follower.ask("REPLICAOF", "127.0.0.1", str(leader.port))
    await until(lambda: b"master_link_status:up" in follower.ask("INFO", "replication"))


async def promoted(redis: Redis, tenant: str, sequence: int) -> None:
    """The tenant's data as a promoted replica has them, which lacks what came after ``sequence``."""
    meta, log = _keys(tenant)
    await redis.execute("HSET", meta, "line", "of-the-server-that-failed", "sequence", sequence)
    kept = await redis.execute("XRANGE", log, "-", sequence)
    await redis.execute("DEL", log)
    for id_, fields in kept:
        await redis.execute("XADD", log, id_, "event", fields[b"event"])


async def fresh_process_refuses(stage: Stage, cursors: Sequence[str]) -> None:
    hub, newcomer = await stage.hub(), Listener()
    hub.attach(newcomer, ["tenant"])
    assert not any(hub.replay(newcomer, cursor) for cursor in cursors)
