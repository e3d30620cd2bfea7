"""Who answers for a child: the right adults, and nobody who only shares a number."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.unit.services.tenant.roster_world import World, head, mother, run, teacher

from yuanlian.services.tenant.roster.guardians.service import MOST_PER_CHILD
from yuanlian.services.tenant.roster.models import Guardian, Guardianship

CHILD = "/students/student_a11/guardians"
FATHER = {"name": "父亲", "phone": "13900000001", "relation": "爸爸"}


def test_a_guardian_is_registered_by_name_and_phone(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        ask = world.as_(head("a"))
        made = await ask("POST", CHILD, {**FATHER, "phone": "+86 139-0000-0001", "canPickUp": False})
        assert made.status == 201
        assert made.data["phone"] == "13900000001"
        assert (made.data["canPickUp"], made.data["receivesNotices"]) == (False, True)
        assert (await ask("GET", CHILD)).data["items"] == [made.data]

    run(tmp_path, scenario)


def test_the_same_person_is_one_record_for_brothers_and_sisters(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        ask = world.as_(head("a"))
        body = {"name": "grandpa", "phone": "13800000002", "relation": "外公"}
        made = await ask("POST", CHILD, body)
        assert made.data["id"] == "guardian_a_grandpa"
        assert made.data["relation"] == "外公"
        assert (await ask("POST", CHILD, body)).status == 409
        assert await world.count(Guardian, tenant_id="a") == 2

    run(tmp_path, scenario)


def test_a_number_under_another_name_is_a_conflict_and_tells_no_name(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        ask = world.as_(head("a"))
        answer = await ask("POST", CHILD, {**FATHER, "phone": "13800000002"})
        assert answer.status == 409
        assert "另一个姓名" in answer.details["phone"]
        assert "grandpa" not in str(answer)
        elsewhere = await world.as_(head("b"))("POST", "/students/student_b11/guardians", FATHER)
        assert elsewhere.status == 201
        assert (await ask("POST", CHILD, {**FATHER, "name": "别人"})).status == 201

    run(tmp_path, scenario)


def test_an_account_brings_its_name_and_phone_and_opens_the_child(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        world.auth.register("a", "user_father", "父亲", "13900000001")
        father = world.as_(_as_user(mother("a"), "user_father"))
        assert (await father("GET", "/students")).ids == []
        made = await world.as_(head("a"))("POST", CHILD, {"userId": "user_father", "relation": "爸爸"})
        assert (made.data["name"], made.data["phone"]) == ("父亲", "13900000001")
        assert (await father("GET", "/students")).ids == ["student_a11"]

    run(tmp_path, scenario)


def test_a_known_guardian_who_gets_an_account_is_linked_only_under_the_same_name(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        ask = world.as_(head("a"))
        world.auth.register("a", "user_imposter", "别人", "13800000002")
        world.auth.register("a", "user_grandpa", "grandpa", "13800000002")
        world.auth.register("a", "user_second", "mother", "13800000001")
        assert (await ask("POST", CHILD, {"userId": "user_imposter", "relation": "x"})).status == 409
        linked = await ask("POST", CHILD, {"userId": "user_grandpa", "relation": "爷爷"})
        assert linked.data["id"] == "guardian_a_grandpa"
        taken = await ask("POST", CHILD, {"userId": "user_second", "relation": "妈妈"})
        assert (taken.status, set(taken.details)) == (409, {"userId"})
        assert await world.count(Guardian, tenant_id="a", user_id="user_mother") == 1

    run(tmp_path, scenario)


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({"relation": "爸爸"}, {"name", "phone"}),
        ({**FATHER, "relation": " "}, {"relation"}),
        ({**FATHER, "relation": "x" * 21}, {"relation"}),
        ({**FATHER, "phone": "12345", "email": "no"}, {"phone", "email"}),
        ({**FATHER, "email": "a@b.cn\nBcc: c@d.cn"}, {"email"}),
        ({**FATHER, "userId": "user_mother"}, {"name", "phone"}),
        ({"userId": "user_of_b", "relation": "爸爸"}, {"userId"}),
        ({**FATHER, "guardianId": "g"}, {"guardianId"}),
    ],
)
def test_what_is_wrong_with_a_guardian_is_told(
    tmp_path: Path, body: dict[str, Any], fields: set[str]
) -> None:
    async def scenario(world: World) -> None:
        world.auth.register("a", "user_mother", "mother", "13800000001")
        world.auth.register("b", "user_of_b", "外人")
        answer = await world.as_(head("a"))("POST", CHILD, body)
        assert (answer.status, set(answer.details)) == (400, fields)
        assert await world.count(Guardianship, student_id="student_a11") == 0

    run(tmp_path, scenario)


def test_an_address_of_a_known_guardian_is_not_changed_in_passing(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        ask = world.as_(head("a"))
        grandpa = {"name": "grandpa", "phone": "13800000002", "relation": "外公"}
        assert (await ask("POST", CHILD, {**grandpa, "email": "old@example.com"})).status == 201
        other = "/students/student_a12/guardians"
        answer = await ask("POST", other, {**grandpa, "email": "new@example.com"})
        assert (answer.status, set(answer.details)) == (409, {"email"})
        assert await world.count(Guardian, email="old@example.com") == 1

    run(tmp_path, scenario)


def test_a_child_has_at_most_ten_guardians_and_one_page_of_them(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        ask = world.as_(head("a"))
        for number in range(10):
            person = {**FATHER, "phone": f"1390000000{number}"}
            assert (await ask("POST", CHILD, person)).status == 201
        answer = await ask("POST", CHILD, {**FATHER, "phone": "13911111111"})
        assert answer.status == 409
        page = (await ask("GET", CHILD)).data
        assert (len(page["items"]), page["nextCursor"], page["total"]) == (MOST_PER_CHILD, None, 10)
        beyond = await ask("GET", f"{CHILD}?cursor=bogus")
        assert (beyond.status, beyond.details) == (400, {"cursor": "游标无效"})
        assert await world.count(Guardian, phone="13911111111") == 0

    run(tmp_path, scenario)


def test_a_removed_guardian_is_cut_off_at_once(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        here, elsewhere = world.connect(mother("a")), world.connect(mother("b"))
        ask, path = world.as_(head("a")), "/students/student_a10/guardians/guardian_a_mother"
        assert (await ask("DELETE", path)).status == 200
        assert (here.closed, elsewhere.closed) == ([4403], [])
        assert (await world.as_(mother("a"))("GET", "/students")).ids == []
        assert (await world.as_(mother("b"))("GET", "/students")).ids == ["student_b10"]
        assert await world.count(Guardian, id="guardian_a_mother") == 0
        assert (await ask("DELETE", path)).status == 404

    run(tmp_path, scenario)


def test_a_guardian_of_two_children_stays_known_when_one_relation_ends(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        ask = world.as_(head("a"))
        await ask("POST", CHILD, {"name": "mother", "phone": "13800000001", "relation": "妈妈"})
        await ask("DELETE", "/students/student_a10/guardians/guardian_a_mother")
        assert await world.count(Guardian, id="guardian_a_mother") == 1
        assert (await world.as_(mother("a"))("GET", "/students")).ids == ["student_a11"]

    run(tmp_path, scenario)


def test_a_relation_is_changed_for_that_child_only(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        path = "/students/student_a10/guardians/guardian_a_grandpa"
        changed = await world.as_(teacher("a"))("PATCH", path, {"receivesNotices": True})
        assert (changed.data["receivesNotices"], changed.data["relation"]) == (True, "grandpa")
        other = "/students/student_a11/guardians/guardian_a_grandpa"
        assert (await world.as_(teacher("a"))("PATCH", other, {"canPickUp": False})).status == 404

    run(tmp_path, scenario)


@pytest.mark.parametrize(("child", "status"), [("student_a20", 403), ("student_b10", 404)])
def test_a_teacher_has_no_business_with_other_childrens_guardians(
    tmp_path: Path, child: str, status: int
) -> None:
    async def scenario(world: World) -> None:
        ask = world.as_(teacher("a"))
        path = f"/students/{child}/guardians"
        one = f"{path}/guardian_b_mother"
        assert (await ask("GET", path)).status == status
        assert (await ask("POST", path, FATHER)).status == status
        assert (await ask("POST", path, {"userId": "user_unknown", "relation": "x"})).status == status
        assert (await ask("PATCH", one, {"canPickUp": False})).status == status
        assert (await ask("DELETE", one)).status == status
        assert await world.count(Guardianship) == 4

    run(tmp_path, scenario)


def _as_user(principal: Any, user_id: str) -> Any:
    return type(principal)(user_id, principal.tenant_id, (), principal.permissions, principal.conditions)
