"""Kindergartens: who opens and suspends them, and how the platform finds them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update
from tests.unit.services.tenant.roster_world import World, head, mother, operator, run

from yuanlian.kit.errors import NotFoundError
from yuanlian.kit.identity.principal import Principal
from yuanlian.kit.tenancy.directory import Tenant
from yuanlian.services.tenant.tenants.directory import CACHE_LIMIT, FOUND_MS, MISSING_MS
from yuanlian.services.tenant.tenants.models import TenantRow


def test_an_operator_opens_a_kindergarten_which_is_found_at_once(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        assert await world.directory.find_by_domain("new.example.com") is None
        made = await world.as_(operator())(
            "POST", "/tenants", {"name": " 新园 ", "domain": "New.Example.com", "timeZone": "Asia/Urumqi"}
        )
        assert made.status == 201
        assert (made.data["name"], made.data["domain"]) == ("新园", "new.example.com")
        assert (made.data["status"], made.data["lateAfter"]) == ("active", "09:00")
        found = await world.directory.find_by_domain("new.example.com")
        assert found == Tenant(made.data["id"], "新园", "new.example.com", time_zone="Asia/Urumqi")

    run(tmp_path, scenario)


def test_operators_list_and_read_every_kindergarten(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        ask = world.as_(operator())
        first = await ask("GET", "/tenants?limit=2")
        assert (first.ids, first.data["total"]) == (["a", "b"], 3)
        assert (await ask("GET", f"/tenants?cursor={first.data['nextCursor']}")).ids == ["platform"]
        assert (await ask("GET", "/tenants/b")).data["name"] == "Kindergarten b"
        unknown = await ask("GET", "/tenants/none")
        assert (unknown.status, unknown.message) == (404, "租户不存在")

    run(tmp_path, scenario)


def test_a_role_with_tenant_permissions_opens_nothing_outside_the_platform(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        permissions = frozenset({"tenant.read", "tenant.write"})
        ask = world.as_(Principal("user_head", "a", (), permissions))
        assert (await ask("GET", "/tenants")).status == 403
        assert (await ask("GET", "/tenants/b")).status == 403
        assert (await ask("POST", "/tenants", {"name": "x"})).status == 403
        assert (await ask("PATCH", "/tenants/b", {"status": "suspended"})).status == 403
        assert (await world.as_(head("a"))("GET", "/tenants")).status == 403
        assert await world.count(TenantRow, status="active") == 3

    run(tmp_path, scenario)


def test_everybody_who_is_signed_in_knows_the_own_kindergarten(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        own = await world.as_(mother("b"))("GET", "/tenants/current")
        assert own.data == {
            "id": "b",
            "name": "Kindergarten b",
            "domain": "b.example.com",
            "status": "active",
            "timeZone": "Asia/Shanghai",
            "lateAfter": "09:00",
        }
        assert (await world.as_(None)("GET", "/tenants/current")).status == 401

    run(tmp_path, scenario)


def test_a_suspension_is_told_and_seen_at_once(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        heard: list[Tenant] = []
        world.directory.on_change(heard.append)
        before = await world.directory.find("a")
        assert before is not None
        assert before.status == "active"
        changed = await world.as_(operator())("PATCH", "/tenants/a", {"status": "suspended"})
        assert changed.data["status"] == "suspended"
        assert [(tenant.id, tenant.status) for tenant in heard] == [("a", "suspended")]
        assert await world.directory.find("a") == heard[0]

    run(tmp_path, scenario)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "x" * 101}, "name"),
        ({"domain": "no host"}, "domain"),
        ({"domain": "single"}, "domain"),
        ({"domain": "-a.example.com"}, "domain"),
        ({"domain": "a.example.com:80"}, "domain"),
        ({"timeZone": "Asia/Nowhere"}, "timeZone"),
        ({"timeZone": "../etc/passwd"}, "timeZone"),
        ({"timeZone": "localtime"}, "timeZone"),
        ({"timeZone": "Factory"}, "timeZone"),
        ({"timeZone": "PRC"}, "timeZone"),
        ({"timeZone": "Asia/Shanghai\n"}, "timeZone"),
        ({"lateAfter": "24:00"}, "lateAfter"),
        ({"lateAfter": "9:00"}, "lateAfter"),
        ({"lateAfter": "0\u0669:00"}, "lateAfter"),
        ({"lateAfter": "09:00\n"}, "lateAfter"),
        ({"status": "closed"}, "status"),
        ({"isolation": "database"}, "isolation"),
        ({"id": "mine"}, "id"),
    ],
)
def test_what_is_wrong_with_a_kindergarten_is_told(tmp_path: Path, body: Any, field: str) -> None:
    async def scenario(world: World) -> None:
        ask = world.as_(operator())
        made = await ask("POST", "/tenants", {"name": "新园", **body})
        assert (made.status, set(made.details)) == (400, {field})
        assert (await ask("PATCH", "/tenants/a", body)).status == 400
        assert await world.count(TenantRow) == 3
        assert await world.count(TenantRow, name="Kindergarten a") == 1

    run(tmp_path, scenario)


def test_a_domain_belongs_to_one_kindergarten(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        ask = world.as_(operator())
        taken = await ask("POST", "/tenants", {"name": "x", "domain": "A.example.com"})
        assert (taken.status, taken.message) == (409, "域名已被其他幼儿园使用")
        assert (await ask("PATCH", "/tenants/b", {"domain": "a.example.com"})).status == 409
        assert (await ask("PATCH", "/tenants/a", {"domain": None})).data["domain"] is None
        assert (await ask("PATCH", "/tenants/b", {"domain": "a.example.com"})).status == 200

    run(tmp_path, scenario)


def test_the_platform_itself_cannot_be_suspended(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        answer = await world.as_(operator())("PATCH", "/tenants/platform", {"status": "suspended"})
        assert set(answer.details) == {"status"}

    run(tmp_path, scenario)


def test_a_first_label_finds_one_kindergarten_or_none(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        found = await world.directory.find_by_domain("a")
        assert found is not None
        assert found.id == "a"
        assert await world.directory.find_by_domain("a.example.org") is None
        assert await world.directory.find_by_domain("%") is None
        await world.as_(operator())("POST", "/tenants", {"name": "x", "domain": "a.example.org"})
        assert await world.directory.find_by_domain("a") is None

    run(tmp_path, scenario)


def test_a_missing_kindergarten_is_asked_for_again_sooner_than_a_known_one(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        def rename(name: str) -> Any:
            return lambda session: session.get(TenantRow, "a").__setattr__("name", name)

        assert await world.directory.find("c") is None
        first = await world.directory.find("a")
        await world.write("a", rename("changed elsewhere"))
        await world.write("a", lambda s: s.add(TenantRow(id="c", name="c", created_at=0)))
        assert await world.directory.find("c") is None
        world.clock.advance(MISSING_MS)
        assert await world.directory.find("c") is not None
        assert await world.directory.find("a") == first
        world.clock.advance(FOUND_MS)
        again = await world.directory.find("a")
        assert again is not None
        assert again.name == "changed elsewhere"

    run(tmp_path, scenario)


def test_guessed_ids_do_not_fill_the_memory(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        directory = world.directory
        directory._known.update({("id", str(n)): (None, 2**62) for n in range(CACHE_LIMIT)})
        await directory.find("one more")
        assert len(directory._known) == CACHE_LIMIT

    run(tmp_path, scenario)


def test_the_edge_has_a_kindergarten_at_hand_until_it_changes_or_ages(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        assert world.directory.at_hand("a") is None
        found = await world.directory.find("a")
        assert world.directory.at_hand("a") == found
        await world.as_(operator())("PATCH", "/tenants/a", {"status": "suspended"})
        assert world.directory.at_hand("a") is None
        suspended = await world.directory.find("a")
        assert suspended is not None
        assert suspended.status == "suspended"
        world.clock.advance(FOUND_MS)
        assert world.directory.at_hand("a") is None

    run(tmp_path, scenario)


def test_a_time_zone_is_asked_for_once_and_anew_after_a_change(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        zones = world.zones
        assert (await zones.of("a")).key == "Asia/Shanghai"
        await world.write("a", lambda session: session.execute(update(TenantRow).values(time_zone="UTC")))
        assert (await zones.of("a")).key == "Asia/Shanghai"
        changed = await world.as_(operator())("PATCH", "/tenants/a", {"timeZone": "Asia/Urumqi"})
        assert changed.status == 200
        assert (await zones.of("a")).key == "Asia/Urumqi"
        assert (await zones.of("b")).key == "UTC"  # nobody had asked for it before

    run(tmp_path, scenario)


def test_a_kindergarten_that_was_asked_for_too_early_is_known_when_it_is_there(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        with pytest.raises(NotFoundError):
            await world.zones.of("tenant_later")
        row = TenantRow(id="tenant_later", name="later", time_zone="UTC", created_at=0)
        await world.write("tenant_later", lambda session: session.add(row))
        await world.zones.changed("tenant_later")
        assert (await world.zones.of("tenant_later")).key == "UTC"

    run(tmp_path, scenario)
