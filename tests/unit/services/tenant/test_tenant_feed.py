"""The tenants' feed is the database's: any instance tells a gateway what any other changed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import msgspec
import pytest
from sqlalchemy.orm import Session
from tests.unit.services.tenant.roster_world import SECRET, World, operator, run

from yuanlian.contracts.tenant import DIRECTORY_PATH, PLATFORM, SERVICE, Found
from yuanlian.gateway.service_client import InProcessClient
from yuanlian.kit import feed as feeds
from yuanlian.kit.database.database import Database
from yuanlian.kit.feed import Changes
from yuanlian.kit.http.app import service_app
from yuanlian.kit.identity.internal import InternalIdentity
from yuanlian.kit.identity.principal import system
from yuanlian.kit.tenancy.directory import Tenant
from yuanlian.services.tenant.tenants import repository, routes
from yuanlian.services.tenant.tenants.feed import PARTS, TenantFeed

LONG_S = 20.0
T = TypeVar("T")


class Watched:
    """A database: counts what is read, and lets others go first before it answers."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.readings = 0
        self.meanwhile: list[Callable[[], Awaitable[None]]] = []

    async def read(self, work: Callable[[Session], T]) -> T:
        self.readings += 1
        answer = await self._database.read(work)
        while self.meanwhile:
            await self.meanwhile.pop()()
        return answer

    async def write(self, work: Callable[[Session], T], *, repeatable: bool = False) -> T:
        return await self._database.write(work, repeatable=repeatable)

    async def ping(self) -> None:
        await self._database.ping()

    async def close(self) -> None:
        await self._database.close()


def two(folder: Path, scenario: Callable[[World, World], Awaitable[None]]) -> None:
    """Two instances of the service on one database, which hear nothing of each other."""

    async def with_another(one: World) -> None:
        other = World(folder)
        try:
            await scenario(one, other)
        finally:
            await other.close()

    run(folder, with_another)


async def suspend(world: World, tenant_id: str, status: str = "suspended") -> None:
    answer = await world.as_(operator())("PATCH", f"/tenants/{tenant_id}", {"status": status})
    assert answer.status == 200


def told(changes: Changes[Tenant]) -> dict[str, str]:
    assert not changes.complete
    return {tenant.id: tenant.status for tenant in changes.items}


def test_what_one_instance_changed_the_other_tells(tmp_path: Path) -> None:
    async def scenario(one: World, other: World) -> None:
        cursor = (await one.directory.feed.after("", 0)).cursor
        waiting = asyncio.create_task(one.directory.feed.after(cursor, LONG_S))
        await asyncio.sleep(0)
        await suspend(other, "a")
        assert told(await waiting)["a"] == "suspended"

    two(tmp_path, scenario)


def test_an_instance_answers_a_cursor_that_another_gave(tmp_path: Path) -> None:
    """Also one that never saw what that cursor stands for: a gateway's questions go to all in turn."""

    async def scenario(one: World, other: World) -> None:
        cursor = (await one.directory.feed.after("", 0)).cursor
        assert await other.directory.feed.after(cursor, 0) == Changes(cursor, complete=False)
        for status in ("suspended", "active"):
            await suspend(one, "a", status)
            cursor = (await one.directory.feed.after(cursor, LONG_S)).cursor
        await suspend(one, "b")
        changes = await other.directory.feed.after(cursor, LONG_S)
        assert told(changes)["b"] == "suspended"
        assert await one.directory.feed.after(changes.cursor, 0) == Changes(changes.cursor, complete=False)

    two(tmp_path, scenario)


def test_who_was_told_of_a_change_finds_it_at_every_instance(tmp_path: Path) -> None:
    async def scenario(one: World, other: World) -> None:
        identity = InternalIdentity(SECRET, other.clock)
        app = service_app(SERVICE, routes.internal_routes(other.directory), identity)
        client = InProcessClient({SERVICE: app}, identity)

        async def find(**by: str) -> Tenant | None:
            gateway = system("gateway", PLATFORM)
            answer = await client.call(SERVICE, "GET", DIRECTORY_PATH, principal=gateway, query=by)
            return msgspec.convert(answer, Found).tenant

        assert await other.directory.find("a") == await find(id="a") == await find(domain="a.example.com")
        await suspend(one, "a")
        for found in (await find(id="a"), await find(domain="a.example.com"), await find(domain="a")):
            assert found is not None
            assert found.status == "suspended"

    two(tmp_path, scenario)


def test_what_this_instance_changed_is_told_without_a_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(world: World) -> None:
        feed = world.directory.feed
        cursor = (await feed.after("", 0)).cursor
        monkeypatch.setattr(feeds, "LOOK_S", 1e9)
        waiting = [asyncio.create_task(feed.after(cursor, 1e10)) for _ in range(3)]
        await asyncio.sleep(0.01)
        assert not any(task.done() for task in waiting)
        await suspend(world, "a")
        for changes in await asyncio.gather(*waiting):
            assert told(changes)["a"] == "suspended"
        # Nor does one wait who asks with what was known before.
        assert told(await feed.after(cursor, 1e10))["a"] == "suspended"

    run(tmp_path, scenario)


def test_a_change_that_a_reading_missed_is_told_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(world: World) -> None:
        watched = Watched(world.database)
        feed = TenantFeed(watched)
        cursor = (await feed.after("", 0)).cursor
        monkeypatch.setattr(feeds, "LOOK_S", 1e9)

        async def another() -> None:
            await suspend(world, "a")
            feed.look()

        waiting = asyncio.create_task(feed.after(cursor, 1e10))
        await asyncio.sleep(0.01)
        watched.meanwhile.append(another)
        feed.look()
        assert told(await waiting)["a"] == "suspended"

    run(tmp_path, scenario)


def test_all_who_wait_share_a_reading_and_nobody_costs_none(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        watched = Watched(world.database)
        feed = TenantFeed(watched)
        cursor = (await feed.after("", 0)).cursor
        before = watched.readings
        answers = await asyncio.gather(*(feed.after(cursor, feeds.LOOK_S * 2.5) for _ in range(50)))
        assert set(answers) == {Changes(cursor, complete=False)}
        alone = watched.readings
        assert alone - before < len(answers)
        await asyncio.sleep(feeds.LOOK_S * 1.5)
        assert watched.readings == alone

    run(tmp_path, scenario)


def test_a_change_is_told_with_few_others(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        others = [
            {
                "id": f"tenant_{number}",
                "name": "one of many",
                "status": "active",
                "isolation": "shared",
                "time_zone": "Asia/Shanghai",
                "late_after": "09:00",
                "created_at": 0,
            }
            for number in range(PARTS * 4)
        ]
        await world.database.write(lambda session: repository.insert_many(session, others))
        feed = world.directory.feed
        cursor = (await feed.after("", 0)).cursor
        await suspend(world, "a")
        changes = told(await feed.after(cursor, LONG_S))
        assert changes["a"] == "suspended"
        assert len(changes) < len(others) / 8

    run(tmp_path, scenario)


def test_a_newcomer_and_whoever_comes_from_another_release_hear_that_all_may_be_old(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        feed = world.directory.feed
        first = await feed.after("", LONG_S)
        assert first == Changes(first.cursor, complete=True)
        other_shape = "0" * len(first.cursor)
        for cursor in ("0a1b2c3d-7", "-", "园", first.cursor[:-1], first.cursor + "A", other_shape):
            assert await feed.after(cursor, LONG_S) == first, cursor

    run(tmp_path, scenario)


def test_a_reader_who_leaves_takes_no_answer_from_the_others(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        feed = world.directory.feed
        leaving = asyncio.create_task(feed.after("", 0))
        await asyncio.sleep(0)
        staying = asyncio.create_task(feed.after("", 0))
        await asyncio.sleep(0)
        leaving.cancel()
        assert (await staying).complete

    run(tmp_path, scenario)
