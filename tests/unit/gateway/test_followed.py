"""What a gateway in a process of its own knows of revocations and tenants, from the real services."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.orm import Session
from tests.support.platform import DEADLINE_S

from yuanlian.contracts.auth import REVOCATIONS_PATH
from yuanlian.contracts.auth import SERVICE as AUTH
from yuanlian.contracts.tenant import DIRECTORY_CHANGES_PATH, DIRECTORY_PATH
from yuanlian.contracts.tenant import SERVICE as TENANT
from yuanlian.gateway.feed_follower import GATEWAY
from yuanlian.gateway.followed_directory import CACHE_LIMIT, FOUND_S, FollowedTenantDirectory
from yuanlian.gateway.followed_revocations import FollowedRevocations, StaleError
from yuanlian.gateway.service_client import InProcessClient
from yuanlian.kit.clock import SystemClock
from yuanlian.kit.database.sqlite import SqliteDatabase
from yuanlian.kit.errors import AuthenticationError, AuthorizationError, ServiceUnavailableError
from yuanlian.kit.http.app import service_app
from yuanlian.kit.http.client import ServiceClient
from yuanlian.kit.identity.internal import InternalIdentity
from yuanlian.kit.identity.memory import MemoryRevocations
from yuanlian.kit.identity.principal import Principal
from yuanlian.kit.tenancy.directory import Tenant
from yuanlian.runtime.schema import upgrade
from yuanlian.services.auth import routes as auth_routes
from yuanlian.services.auth.models import Revocation
from yuanlian.services.auth.revocation import RevocationLog
from yuanlian.services.tenant.tenants import routes as tenant_routes
from yuanlian.services.tenant.tenants.directory import DatabaseTenantDirectory, to_tenant
from yuanlian.services.tenant.tenants.models import TenantRow
from yuanlian.services.tenant.tenants.repository import insert_many

TEACHER = Principal("user_1", "tenant_sun", session_id="session_1")
_ROW = {"status": "active", "isolation": "shared", "time_zone": "Asia/Shanghai", "late_after": "09:00"}


class Line:
    """The line between gateway and services; ``cut`` is how it breaks."""

    def __init__(self, client: ServiceClient) -> None:
        self._client = client
        self.cut = False
        self.calls: list[tuple[str, dict[str, str]]] = []

    async def call(
        self,
        service: str,
        method: str,
        path: str,
        *,
        principal: Principal,
        query: dict[str, str] | None = None,
        data: Any = None,
    ) -> Any:
        self.calls.append((path, query or {}))
        if self.cut:
            raise ServiceUnavailableError
        return await self._client.call(service, method, path, principal=principal, query=query, data=data)

    def asked(self, path: str) -> int:
        return sum(1 for called, query in self.calls if called == path)


class World:
    def __init__(self, folder: Path) -> None:
        self.clock = SystemClock()
        self.database = SqliteDatabase(folder / "world.db")
        self.database.migrate(upgrade)
        identity = InternalIdentity(b"i" * 32, self.clock)
        self.log = RevocationLog(self.database, MemoryRevocations(self.clock), self.clock)
        self.directory = DatabaseTenantDirectory(self.database, self.clock)
        self.client = InProcessClient(
            {
                AUTH: service_app(AUTH, auth_routes.routes(self.log), identity),
                TENANT: service_app(TENANT, tenant_routes.internal_routes(self.directory), identity),
            },
            identity,
        )
        self.line = Line(self.client)

    async def revoke_session(self, session_id: str) -> None:
        await self._revoke(lambda session: self.log.session_revoked(session, session_id))

    async def revoke_member(self, tenant_id: str, user_id: str) -> None:
        await self._revoke(lambda session: self.log.member_revoked(session, tenant_id, user_id))

    async def _revoke(self, write: Callable[[Session], Revocation]) -> None:
        await self.log.tell([await self.database.write(write)])

    async def open(self, tenant_id: str, domain: str) -> None:
        row = {"id": tenant_id, "name": tenant_id, "domain": domain, "created_at": 1, **_ROW}
        await self.database.write(lambda session: insert_many(session, [row]))

    async def suspend(self, tenant_id: str) -> None:
        def work(session: Session) -> Tenant:
            row = session.get_one(TenantRow, tenant_id)
            row.status = "suspended"
            return to_tenant(row)

        self.directory.changed(await self.database.write(work))


def _run(folder: Path, scenario: Callable[[World], Awaitable[None]]) -> None:
    async def all_of_it() -> None:
        world = World(folder)
        try:
            await scenario(world)
        finally:
            await world.database.close()

    asyncio.run(asyncio.wait_for(all_of_it(), DEADLINE_S))


def test_what_was_revoked_before_and_after_is_refused(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        await world.revoke_session("session_1")
        followed = FollowedRevocations(world.line, world.clock, grace_s=60)
        await followed.feed.ask()
        issued = world.clock.now_ms() // 1000
        assert followed.is_revoked(TEACHER, issued)
        other = Principal("user_2", "tenant_sun", session_id="session_2")
        assert not followed.is_revoked(other, issued)
        following = asyncio.create_task(followed.feed.follow())
        heard = asyncio.Event()
        followed.on_revoked(lambda *_: heard.set())
        await world.revoke_member("tenant_sun", "user_2")
        await heard.wait()
        assert followed.is_revoked(other, issued)
        following.cancel()

    _run(tmp_path, scenario)


def test_what_the_feed_tells_again_listeners_hear_once(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        followed = FollowedRevocations(world.line, world.clock, grace_s=60)
        heard: list[str | None] = []
        followed.on_revoked(lambda session_id, *_: heard.append(session_id))
        for session_id in ("session_1", "session_2", "session_3"):
            await world.revoke_session(session_id)
            await followed.feed.ask()
        assert heard == ["session_1", "session_2", "session_3"]

    _run(tmp_path, scenario)


def test_what_was_heard_over_redis_first_the_feed_tells_listeners_no_more(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        followed = FollowedRevocations(world.line, world.clock, grace_s=60)
        heard: list[tuple[str | None, ...]] = []
        followed.on_revoked(lambda *revoked: heard.append(revoked))
        await world.revoke_member("tenant_sun", "user_1")
        for revoked in (await world.log.after("", 0)).items:
            await revoked.enter(followed)  # as ``hear`` does
        await followed.feed.ask()
        assert heard == [(None, "tenant_sun", "user_1")]

    _run(tmp_path, scenario)


def test_nobody_is_let_in_before_the_feed_was_heard_nor_long_after(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        now = [100.0]
        followed = FollowedRevocations(world.line, world.clock, grace_s=300)
        followed.feed._clock = lambda: now[0]
        with pytest.raises(ServiceUnavailableError):
            followed.is_revoked(TEACHER, 1)
        with pytest.raises(StaleError, match="never"):
            await followed.check()
        await followed.feed.ask()
        now[0] += 299
        assert not followed.is_revoked(TEACHER, 1)
        assert await followed.check() == "known as of 299.0 s ago"
        now[0] += 2
        with pytest.raises(ServiceUnavailableError):
            followed.is_revoked(TEACHER, 1)
        with pytest.raises(StaleError, match="refused after 300 s"):
            await followed.check()
        await followed.feed.ask()
        assert not followed.is_revoked(TEACHER, 1)

    _run(tmp_path, scenario)


def test_a_feed_that_was_away_is_caught_up_with(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        followed = FollowedRevocations(world.line, world.clock, grace_s=60)
        await followed.feed.ask()
        world.line.cut = True
        following = asyncio.create_task(followed.feed.follow())
        await world.revoke_session("session_1")
        while world.line.asked(REVOCATIONS_PATH) < 3:
            await asyncio.sleep(0.01)
        assert not followed.is_revoked(TEACHER, 1)
        world.line.cut = False
        while not followed.is_revoked(TEACHER, 1):
            await asyncio.sleep(0.01)
        following.cancel()

    _run(tmp_path, scenario)


def test_tenants_are_found_by_id_and_domain_and_asked_for_once(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        await world.open("tenant_sun", "sun.example.org")
        directory = FollowedTenantDirectory(world.line)
        assert directory.at_hand("tenant_sun") is None
        found = await asyncio.gather(*(directory.find("tenant_sun") for _ in range(5)))
        assert {tenant.id for tenant in found if tenant} == {"tenant_sun"}
        assert directory.at_hand("tenant_sun") == found[0]
        assert await directory.find_by_domain("sun.example.org") == found[0]
        assert await directory.find_by_domain("sun") == found[0]
        assert await directory.find("nobody") is None
        assert await directory.find("nobody") is None
        assert world.line.asked(DIRECTORY_PATH) == 4

    _run(tmp_path, scenario)


def test_a_suspension_is_known_at_once(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        await world.open("tenant_sun", "sun.example.org")
        directory = FollowedTenantDirectory(world.line)
        await directory.feed.ask()
        assert await directory.find_by_domain("sun.example.org")
        changed = asyncio.Event()
        directory.on_change(lambda _: changed.set())
        following = asyncio.create_task(directory.feed.follow())
        await world.suspend("tenant_sun")
        await changed.wait()
        known = directory.at_hand("tenant_sun")
        assert known is not None
        assert known.status == "suspended"
        before = world.line.asked(DIRECTORY_PATH)
        await directory.find_by_domain("sun.example.org")
        assert world.line.asked(DIRECTORY_PATH) == before + 1
        following.cancel()

    _run(tmp_path, scenario)


def test_however_many_change_only_so_many_are_kept(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        followed = FollowedTenantDirectory(world.line)
        await followed.feed.ask()
        many = CACHE_LIMIT + 100
        rows = [{"id": f"tenant_{n:05}", "name": "one of many", "created_at": 1, **_ROW} for n in range(many)]
        await world.database.write(lambda session: insert_many(session, rows))
        await followed.feed.ask()
        assert followed.at_hand(f"tenant_{many - 1:05}") is not None
        assert followed.at_hand("tenant_00000") is None
        assert len(followed) == CACHE_LIMIT

    _run(tmp_path, scenario)


def test_a_suspension_that_another_instance_made_is_known_at_once(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        await world.open("tenant_sun", "sun.example.com")
        directory = FollowedTenantDirectory(world.line)
        heard: list[Tenant] = []
        directory.on_change(heard.append)
        assert await directory.find("tenant_sun") is not None
        suspended = Tenant("tenant_sun", "tenant_sun", "sun.example.com", status="suspended")
        directory.enter(suspended)
        assert heard == [suspended]
        assert await directory.find("tenant_sun") == suspended

    _run(tmp_path, scenario)


def test_what_may_have_been_missed_is_asked_for_anew(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        await world.open("tenant_sun", "sun.example.com")
        directory = FollowedTenantDirectory(world.line)
        for _ in range(2):
            await directory.find("tenant_sun")
        assert world.line.asked(DIRECTORY_PATH) == 1
        directory.forget()
        assert await directory.find("tenant_sun") is not None
        assert world.line.asked(DIRECTORY_PATH) == 2
        world.line.cut = True
        directory.forget()
        assert await directory.find("tenant_sun") is not None  # nobody answers: as they were

    _run(tmp_path, scenario)


def test_known_tenants_outlive_the_service_and_unknown_ones_do_not(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        await world.open("tenant_sun", "sun.example.org")
        now = [0.0]
        directory = FollowedTenantDirectory(world.line, lambda: now[0])
        found = await directory.find("tenant_sun")
        world.line.cut = True
        now[0] += FOUND_S * 100
        assert directory.at_hand("tenant_sun") is None
        assert await directory.find("tenant_sun") == found
        assert directory.at_hand("tenant_sun") == found  # and is not asked for at every request
        with pytest.raises(ServiceUnavailableError):
            await directory.find("tenant_star")
        world.line.cut = False
        assert await directory.find("tenant_star") is None

    _run(tmp_path, scenario)


def test_the_feeds_are_for_the_platform_itself(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        paths = ((AUTH, REVOCATIONS_PATH), (TENANT, DIRECTORY_PATH), (TENANT, DIRECTORY_CHANGES_PATH))
        everything = frozenset({"tenant.read", "tenant.write", "user.read"})
        for service, path in paths:
            for person in (TEACHER, Principal("user_op", "platform", permissions=everything)):
                with pytest.raises(AuthorizationError):
                    await world.client.call(service, "GET", path, principal=person, query={"id": "x"})
        others = InternalIdentity(b"o" * 32, world.clock)
        app = service_app(AUTH, auth_routes.routes(world.log), others)
        stranger = InProcessClient({AUTH: app}, InternalIdentity(b"i" * 32, world.clock))
        with pytest.raises(AuthenticationError):
            await stranger.call(AUTH, "GET", REVOCATIONS_PATH, principal=GATEWAY)

    _run(tmp_path, scenario)
