"""Servers of a distributed installation are taken away under a stream of check-ins of two kindergartens.

What has to be so afterwards is what ``test_processes_lost`` says. ``docs/failure-modes.md`` has the table.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import httpx
import pytest
from tests.support.fault_world import Counts, World
from tests.support.people_at_work import sign_in
from tests.support.platform import People, eventually
from websockets.exceptions import ConnectionClosed

from yuanlian.gateway.websocket_limits import CloseCode

AWAY_S = 20.0
LONG_S = 45.0
"""Longer than all three retries of a message take."""
SIGN_INS = 4
TURNS = 3

Fault = Callable[[World, random.Random], None]


def _stop_rabbitmq(world: World, _: random.Random) -> None:
    world.installation.broker.stop()
    time.sleep(AWAY_S)
    world.installation.broker.start()


def _close_rabbitmq_connections(world: World, chance: random.Random) -> None:
    for _ in range(4):
        world.installation.broker.close_connections()
        time.sleep(chance.uniform(0.2, 1.0))


def _stop_redis(world: World, _: random.Random) -> None:
    with _without_redis(world):
        time.sleep(AWAY_S)


def _hang_redis(world: World, _: random.Random) -> None:
    """It comes back as it was: nothing but what queues have kept tells that something is missing."""
    world.installation.redis.pause()
    try:
        time.sleep(LONG_S)
    finally:
        world.installation.redis.resume()


def _flush_redis(world: World, chance: random.Random) -> None:
    for _ in range(4):
        world.installation.redis.ask("FLUSHALL")
        time.sleep(chance.uniform(0.2, 1.0))


def _restart_mariadb(world: World, _: random.Random) -> None:
    world.installation.database.stop()
    time.sleep(2.0)
    world.installation.database.start()


def _kill_mariadb(world: World, _: random.Random) -> None:
    world.installation.database.kill()
    time.sleep(AWAY_S)
    world.installation.database.start()


@contextmanager
def _without_redis(world: World) -> Iterator[None]:
    world.installation.redis.stop()
    try:
        yield
    finally:
        world.installation.redis.start()


@pytest.mark.timeout(500)
@pytest.mark.parametrize(
    ("fault", "goes_on"),
    [
        pytest.param(_stop_rabbitmq, True, id="RabbitMQ away for 20 s"),
        pytest.param(_close_rabbitmq_connections, True, id="RabbitMQ connections closed by force"),
        pytest.param(_stop_redis, True, id="Redis away for 20 s"),
        pytest.param(_hang_redis, True, id="Redis answers nothing for 45 s"),
        pytest.param(_flush_redis, True, id="Redis flushed"),
        pytest.param(_restart_mariadb, False, id="MariaDB restarted"),
        pytest.param(_kill_mariadb, False, id="MariaDB killed, away for 20 s"),
    ],
)
def test_taken_away_and_given_back(
    world: World,
    chance: random.Random,
    report: Callable[[Counts], None],
    fault: Fault,
    goes_on: bool,
) -> None:
    with world.stream(goes_on=goes_on) as counts:
        fault(world, chance)
    report(counts)


def test_what_either_auth_service_revokes_is_refused_without_redis(world: World) -> None:
    """Requests are spread over both instances, so of several goodbyes each has some."""
    with httpx.Client(base_url=world.platform.public, timeout=20, trust_env=False) as http:
        tokens = [sign_in(http, "laoshi")["accessToken"] for _ in range(SIGN_INS)]
        with _without_redis(world):
            for token in tokens:
                mine = {"authorization": f"Bearer {token}"}
                assert http.get("/api/auth/me", headers=mine).status_code == 200
                assert http.post("/api/auth/logout", headers=mine, json={"data": {}}).status_code < 300
                eventually(lambda mine=mine: http.get("/api/auth/me", headers=mine).status_code == 401)


def test_what_either_tenant_service_suspends_is_refused_without_redis(world: World) -> None:
    """Requests are spread over both instances, so of several changes each makes some. An open board hears
    of a suspension only from the feed: nobody asks on its behalf."""
    with closing(People(world.platform.public)) as people:
        operator, principal = people("admin"), people("yuanzhang2")

        def becomes(status: str) -> None:
            path = f"/api/tenant/tenants/{principal.tenant_id}"
            assert operator.call("PATCH", path, {"status": status}).status == 200

        with _without_redis(world):
            for _ in range(TURNS):
                with principal.socket() as board:
                    becomes("suspended")
                    with pytest.raises(ConnectionClosed) as closed:
                        board.next("never sent", timeout=30)
                assert closed.value.rcvd is not None
                assert closed.value.rcvd.code == CloseCode.FORBIDDEN
                assert principal.get("/api/auth/me").status == 403
                becomes("active")
                eventually(lambda: principal.get("/api/auth/me").status == 200)


def test_an_announcement_is_stored_and_answered_without_redis(world: World) -> None:
    """It was answered with 503, and told everybody twice when its sender tried again."""
    with closing(People(world.platform.public)) as people:
        principal, guardian = people("yuanzhang"), people("jiazhang2")
        before = len(guardian.inbox())
        with _without_redis(world):
            words = {"title": "明天放假", "body": "请家长相互转告。", "audience": "tenant"}
            assert principal.post("/api/notifications/announcements", words).status == 201
        assert len(guardian.inbox()) == before + 1
