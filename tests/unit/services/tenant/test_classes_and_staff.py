"""Classes, and the staff who look after them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.unit.services.tenant.roster_world import World, head, mother, run, teacher

from yuanlian.services.tenant.roster.models import Classroom, Staff, StaffClass


def test_each_sees_the_classes_they_are_tied_to(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        assert (await world.as_(head("a"))("GET", "/classes")).ids == ["class_a1", "class_a2"]
        for who in (teacher("a"), mother("a")):
            assert (await world.as_(who)("GET", "/classes")).ids == ["class_a1"]
            assert (await world.as_(who)("GET", "/classes/class_a1")).status == 200
            assert (await world.as_(who)("GET", "/classes/class_a2")).status == 403

    run(tmp_path, scenario)


@pytest.mark.parametrize("noun", ["classes/class_b1", "staff/staff_b_teacher"])
def test_classes_and_staff_of_another_kindergarten_do_not_exist(tmp_path: Path, noun: str) -> None:
    async def scenario(world: World) -> None:
        ask = world.as_(head("a"))
        for method, body in (("GET", None), ("PATCH", {"name": "x"}), ("DELETE", None)):
            assert (await ask(method, f"/{noun}", body)).status == 404
        assert await world.count(Classroom, tenant_id="b") == 2
        assert await world.count(Staff, tenant_id="b") == 2
        assert all("_a" in id_ for id_ in (await ask("GET", "/staff")).ids)

    run(tmp_path, scenario)


def test_a_class_is_opened_renamed_and_closed(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        ask = world.as_(head("a"))
        made = await ask("POST", "/classes", {"name": " 大一班 ", "grade": "大班"})
        assert (made.status, made.data["name"], made.data["grade"]) == (201, "大一班", "大班")
        path = f"/classes/{made.data['id']}"
        changed = await ask("PATCH", path, {"grade": None})
        assert (changed.data["name"], changed.data["grade"]) == ("大一班", None)
        assert (await ask("DELETE", path)).status == 200
        assert (await ask("GET", path)).status == 404

    run(tmp_path, scenario)


def test_a_class_name_is_unique_within_its_kindergarten(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        ask = world.as_(head("a"))
        assert (await ask("POST", "/classes", {"name": "1班"})).status == 409
        assert (await ask("PATCH", "/classes/class_a2", {"name": "1班"})).status == 409
        assert (await ask("PATCH", "/classes/class_a1", {"name": "1班"})).status == 200
        await ask("PATCH", "/classes/class_a1", {"name": "改名"})
        assert (await ask("POST", "/classes", {"name": "1班"})).status == 201

    run(tmp_path, scenario)


def test_a_class_with_active_children_stays(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        answer = await world.as_(head("a"))("DELETE", "/classes/class_a1")
        assert answer.status == 409
        assert "请先转班" in answer.message
        assert await world.count(Classroom, tenant_id="a") == 2

    run(tmp_path, scenario)


def test_closing_a_class_ends_what_its_staff_see(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        ask, socket = world.as_(head("a")), world.connect(teacher("a"))
        for child in ("0", "1", "2"):
            await ask("PATCH", f"/students/student_a1{child}", {"status": "graduated"})
        socket.closed.clear()
        world.hub.attach(socket, ["user"])
        assert (await ask("DELETE", "/classes/class_a1")).status == 200
        assert socket.closed == [4403]
        assert await world.count(StaffClass, tenant_id="a") == 0
        assert (await world.as_(teacher("a"))("GET", "/students")).ids == []

    run(tmp_path, scenario)


@pytest.mark.parametrize(
    ("body", "field"), [({"name": ""}, "name"), ({"grade": "x" * 21}, "grade"), ({"n": 1}, "n")]
)
def test_what_is_wrong_with_a_class_is_told(tmp_path: Path, body: dict[str, Any], field: str) -> None:
    async def scenario(world: World) -> None:
        ask = world.as_(head("a"))
        answer = await ask("POST", "/classes", {"name": "新班", **body})
        assert (answer.status, set(answer.details)) == (400, {field})
        assert (await ask("PATCH", "/classes/class_a1", body)).status == 400
        assert (await world.as_(teacher("a"))("POST", "/classes", {"name": "新班"})).status == 403

    run(tmp_path, scenario)


def test_somebody_with_an_account_joins_the_staff_and_sees_the_class(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        world.auth.register("a", "user_new", "新老师")
        new = teacher("a")
        ask, newcomer = world.as_(head("a")), world.as_(_as_user(new, "user_new"))
        assert (await newcomer("GET", "/students")).ids == []
        made = await ask("POST", "/staff", {"userId": "user_new", "classIds": ["class_a2", "class_a2"]})
        assert made.status == 201
        assert (made.data["name"], made.data["classIds"]) == ("新老师", ["class_a2"])
        assert len((await newcomer("GET", "/students")).ids) == 3
        assert (await ask("POST", "/staff", {"userId": "user_new"})).status == 409

    run(tmp_path, scenario)


def test_an_unknown_user_or_class_of_a_member_of_staff_is_refused_where_it_stands(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        world.auth.register("b", "user_of_b", "外人")
        world.auth.register("a", "user_new", "新老师")
        ask = world.as_(head("a"))
        stranger = await ask("POST", "/staff", {"userId": "user_of_b"})
        assert (stranger.status, set(stranger.details)) == (400, {"userId"})
        climbing = await ask("POST", "/staff", {"userId": "../../users"})
        assert set(climbing.details) == {"userId"}
        body = {"userId": "user_new", "classIds": ["class_a1", "class_b1"]}
        assert set((await ask("POST", "/staff", body)).details) == {"classIds[1]"}
        changed = await ask("PATCH", "/staff/staff_a_teacher", {"classIds": ["class_b1"]})
        assert set(changed.details) == {"classIds[0]"}
        assert await world.count(Staff, tenant_id="a") == 2

    run(tmp_path, scenario)


def test_other_classes_end_the_open_connections_of_that_member_only(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        ask, here = world.as_(head("a")), world.connect(teacher("a"))
        others = [world.connect(teacher("b")), world.connect(head("a"))]
        path = "/staff/staff_a_teacher"
        await ask("PATCH", path, {"name": "改名", "classIds": ["class_a1"]})
        assert here.closed == []
        changed = await ask("PATCH", path, {"classIds": ["class_a2"]})
        assert changed.data["classIds"] == ["class_a2"]
        assert here.closed == [4403]
        assert (await world.as_(teacher("a"))("GET", "/students/student_a10")).status == 403
        assert (await ask("DELETE", path)).status == 200
        assert (await world.as_(teacher("a"))("GET", "/students")).ids == []
        assert all(other.closed == [] for other in others)

    run(tmp_path, scenario)


def test_under_a_condition_one_reads_the_staff_of_the_own_classes_and_writes_none(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        ask = world.as_(teacher("a"))
        assert (await ask("GET", "/staff")).ids == ["staff_a_teacher"]
        assert (await ask("GET", "/staff/staff_a_head")).status == 403
        everything = {"classIds": ["class_a1", "class_a2"]}
        assert (await ask("PATCH", "/staff/staff_a_teacher", everything)).status == 403
        assert (await ask("DELETE", "/staff/staff_a_head")).status == 403
        assert (await world.as_(mother("a"))("GET", "/staff")).status == 403

    run(tmp_path, scenario)


def _as_user(principal: Any, user_id: str) -> Any:
    return type(principal)(user_id, principal.tenant_id, (), principal.permissions, principal.conditions)
