from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.support.auth import PASSWORD, SUN, AuthRig, with_rig

from yuanlian.kit.identity.decision import Authorizer, Condition, compiled
from yuanlian.services.auth.grants import Grants, Permission, combine
from yuanlian.services.auth.roles import CATALOGUE, built_in


def permission(name: str, condition: str | None = None) -> dict[str, Any]:
    resource, action = name.split(".")
    return {"resource": resource, "action": action, "condition": condition}


async def define(rig: AuthRig, token: str, name: str, *permissions: dict[str, Any]) -> Any:
    return await rig.call("POST", "/roles", {"name": name, "permissions": list(permissions)}, token=token)


async def with_role(rig: AuthRig, principal: str, username: str, *permissions: dict[str, Any]) -> str:
    """A new user whose only role has these permissions; their token."""
    role = (await define(rig, principal, f"role of {username}", *permissions)).data["id"]
    body = {"username": username, "name": "某人", "roles": [role], "password": PASSWORD}
    assert (await rig.call("POST", "/users", body, token=principal)).status == 201
    return await rig.token(username)


def test_roles_at_birth_are_made_of_known_permissions_and_sound_conditions() -> None:
    for tenant in ("platform", SUN):
        for role in built_in(tenant).values():
            for each in role.permissions:
                assert (each.resource, each.action) in CATALOGUE
                if each.condition is not None:
                    assert CATALOGUE[each.resource, each.action].conditional
                    assert isinstance(compiled(each.condition), Condition)


def test_operators_hold_no_child_data_and_kindergartens_no_operators_powers() -> None:
    operator = combine(built_in("platform")["platform_admin"].permissions)
    assert not any(p.startswith(("student.", "attendance.", "guardian.")) for p in operator.permissions)
    for role in built_in(SUN).values():
        assert not any(p.startswith("tenant.") for p in combine(role.permissions).permissions)
    assert "attendance.write" not in combine(built_in(SUN)["guardian"].permissions).permissions


def test_an_unconditional_grant_wins_over_conditional_ones() -> None:
    both = combine([Permission("a", "read", "x"), Permission("a", "read"), Permission("b", "read", "y")])
    assert both == Grants(frozenset({"a.read", "b.read"}), {"b.read": ("y",)})


def test_a_grant_covers_itself_and_less_but_not_more() -> None:
    mine = combine([Permission("a", "read"), Permission("b", "read", "x"), Permission("b", "read", "y")])
    assert mine.covers(mine)
    assert mine.covers(combine([Permission("a", "read", "anything")]))
    assert mine.covers(combine([Permission("b", "read", "y")]))
    assert not mine.covers(combine([Permission("b", "read")]))
    assert not mine.covers(combine([Permission("b", "read", "z")]))
    assert not mine.covers(combine([Permission("c", "read")]))


def test_a_role_of_ones_own_is_listed_given_and_carried_in_tokens(tmp_path: Path) -> None:
    async def scenario(rig: AuthRig) -> None:
        token = await rig.token("yuanzhang")
        mine = "resource.classId in user.classIds"
        nurse = await with_role(
            rig, token, "nurse", permission("attendance.read"), permission("student.read", mine)
        )
        principal = rig.admit(nurse)
        assert principal.permissions == {"attendance.read", "student.read"}
        assert principal.conditions == {"student.read": (mine,)}
        listed = (await rig.call("GET", "/roles", token=token)).data["items"]
        assert [role["builtIn"] for role in listed] == [True] * 4 + [False]
        assert listed[-1]["name"] == "role of nurse"
        names = {p["name"] for p in (await rig.call("GET", "/permissions", token=token)).data["items"]}
        assert "attendance.write" in names
        assert "tenant.write" not in names

    with_rig(tmp_path, scenario)


def test_built_in_roles_are_read_only(tmp_path: Path) -> None:
    async def scenario(rig: AuthRig) -> None:
        token = await rig.token("yuanzhang")
        assert (await rig.call("PATCH", "/roles/teacher", {"name": "x"}, token=token)).status == 403
        assert (await rig.call("DELETE", "/roles/teacher", token=token)).status == 403
        assert (await define(rig, token, "教师")).status == 409
        assert (await define(rig, token, "principal")).status == 409

    with_rig(tmp_path, scenario)


def test_a_bad_condition_or_permission_is_400_at_its_place(tmp_path: Path) -> None:
    async def scenario(rig: AuthRig) -> None:
        token = await rig.token("yuanzhang")
        answer = await define(
            rig,
            token,
            "bad",
            permission("student.read"),
            permission("student.read", "resource.classId in"),
            permission("student.read", "secrets.x == 1"),
            permission("student.fly"),
        )
        assert answer.status == 400
        assert answer.fields == [
            "permissions[1].condition",
            "permissions[2].condition",
            "permissions[3]",
        ]

    with_rig(tmp_path, scenario)


def test_a_condition_is_refused_where_no_service_decides_it(tmp_path: Path) -> None:
    async def scenario(rig: AuthRig) -> None:
        token = await rig.token("yuanzhang")
        kinds = (await rig.call("GET", "/permissions", token=token)).data["items"]
        may = {kind["name"] for kind in kinds if kind["conditional"]}
        assert {"student.read", "student.write", "staff.read", "announcement.write"} <= may
        assert not may & {"staff.write", "analytics.write", "notification.read", "user.write", "role.read"}
        for kind in kinds:
            wanted = permission(kind["name"], "resource.classId in user.classIds")
            answer = await define(rig, token, kind["name"], wanted)
            if kind["conditional"]:
                assert answer.status == 201, kind
            else:
                assert (answer.status, answer.fields) == (400, ["permissions[0].condition"]), kind

    with_rig(tmp_path, scenario)


@pytest.mark.parametrize(
    "wanted",
    [
        permission("student.write"),
        permission("student.read"),
        permission("student.read", "true"),
        permission("tenant.write"),
    ],
)
def test_nobody_defines_a_role_beyond_their_own(tmp_path: Path, wanted: dict[str, Any]) -> None:
    async def scenario(rig: AuthRig) -> None:
        principal = await rig.token("yuanzhang")
        clerk = await with_role(
            rig,
            principal,
            "clerk",
            permission("role.write"),
            permission("role.read"),
            permission("student.read", "resource.classId in user.classIds"),
        )
        assert (await define(rig, clerk, "grab", wanted)).status == 403
        allowed = permission("student.read", "resource.classId in user.classIds")
        harmless = await define(rig, clerk, "harmless", permission("role.read"), allowed)
        assert harmless.status == 201
        change = {"permissions": [wanted]}
        grab = await rig.call("PATCH", f"/roles/{harmless.data['id']}", change, token=clerk)
        assert grab.status == 403

    with_rig(tmp_path, scenario)


def test_nobody_gives_or_takes_charge_of_more_than_they_hold(tmp_path: Path) -> None:
    async def scenario(rig: AuthRig) -> None:
        principal = await rig.token("yuanzhang")
        powers = [permission("user.write"), permission("user.read"), permission("notification.read")]
        secretary = await with_role(rig, principal, "secretary", *powers)
        grab = {"username": "puppet", "name": "某人", "roles": ["principal"], "password": PASSWORD}
        assert (await rig.call("POST", "/users", grab, token=secretary)).status == 403
        assert (await rig.login("puppet")).status == 401
        reset = {"password": "taken over!"}
        changes: list[dict[str, Any]] = [
            reset,
            {"status": "suspended"},
            {"roles": ["guardian"]},
            {"name": "x"},
        ]
        for change in changes:
            for user in ("user_yuanzhang", "user_laoshi"):
                answer = await rig.call("PATCH", f"/users/{user}", change, token=secretary)
                assert answer.status == 403, (user, change)
        assert (await rig.call("DELETE", "/users/user_yuanzhang", token=secretary)).status == 403
        assert (await rig.login("yuanzhang")).status == 200

    with_rig(tmp_path, scenario)


def test_a_stronger_role_is_out_of_a_weaker_ones_reach(tmp_path: Path) -> None:
    async def scenario(rig: AuthRig) -> None:
        principal = await rig.token("yuanzhang")
        strong = (await define(rig, principal, "strong", permission("student.write"))).data["id"]
        clerk = await with_role(rig, principal, "clerk", permission("role.write"), permission("role.read"))
        emptied = await rig.call("PATCH", f"/roles/{strong}", {"permissions": []}, token=clerk)
        assert emptied.status == 403
        assert (await rig.call("DELETE", f"/roles/{strong}", token=clerk)).status == 403

    with_rig(tmp_path, scenario)


def test_a_changed_role_refuses_the_tokens_of_its_holders(tmp_path: Path) -> None:
    async def scenario(rig: AuthRig) -> None:
        principal = await rig.token("yuanzhang")
        nurse = await with_role(rig, principal, "nurse", permission("student.read"))
        role = rig.admit(nurse).roles[0]
        await rig.call("PATCH", f"/roles/{role}", {"name": "renamed"}, token=principal)
        assert not rig.refused(nurse)
        change = {"permissions": [permission("class.read")]}
        await rig.call("PATCH", f"/roles/{role}", change, token=principal)
        assert rig.refused(nurse)
        assert rig.admit(await rig.token("nurse")).permissions == {"class.read"}

    with_rig(tmp_path, scenario)


def test_a_role_goes_when_nobody_has_it(tmp_path: Path) -> None:
    async def scenario(rig: AuthRig) -> None:
        principal = await rig.token("yuanzhang")
        nurse = await with_role(rig, principal, "nurse", permission("student.read"))
        role = rig.admit(nurse).roles[0]
        assert (await rig.call("DELETE", f"/roles/{role}", token=principal)).status == 409
        await rig.call("DELETE", "/users/" + rig.admit(nurse).user_id, token=principal)
        assert (await rig.call("DELETE", f"/roles/{role}", token=principal)).status == 200
        assert (await rig.call("DELETE", f"/roles/{role}", token=principal)).status == 404

    with_rig(tmp_path, scenario)


def test_roles_of_another_tenant_do_not_exist_here(tmp_path: Path) -> None:
    async def scenario(rig: AuthRig) -> None:
        sun, star = await rig.token("yuanzhang"), await rig.token("yuanzhang2")
        role = (await define(rig, sun, "ours", permission("student.read"))).data["id"]
        assert (await rig.call("PATCH", f"/roles/{role}", {"name": "x"}, token=star)).status == 404
        assert (await rig.call("DELETE", f"/roles/{role}", token=star)).status == 404
        body = {"username": "mole", "name": "某人", "roles": [role], "password": PASSWORD}
        answer = await rig.call("POST", "/users", body, token=star)
        assert (answer.status, answer.fields) == (400, ["roles[0]"])
        assert len((await rig.call("GET", "/roles", token=star)).data["items"]) == 4
        assert (await define(rig, star, "ours")).status == 201

    with_rig(tmp_path, scenario)


def test_the_roles_conditions_decide_as_meant(tmp_path: Path) -> None:
    async def scenario(rig: AuthRig) -> None:
        authorizer = Authorizer(rig.clock)
        teacher, parent = rig.admit(await rig.token("laoshi")), rig.admit(await rig.token("jiazhang", SUN))
        ties = {"classIds": ["c1"], "studentIds": ["s1"], "childClassIds": ["c1"]}
        child, other = {"id": "s1", "classId": "c1"}, {"id": "s2", "classId": "c2"}
        classmate = {"id": "s3", "classId": "c1"}
        for action in ("student.read", "attendance.write", "guardian.read"):
            assert authorizer.allows(teacher, action, classmate, ties)
            assert not authorizer.allows(teacher, action, other, ties)
        assert authorizer.allows(parent, "student.read", child, ties)
        assert not authorizer.allows(parent, "student.read", classmate, ties)
        assert not authorizer.allows(parent, "attendance.write", child, ties)
        assert authorizer.allows(parent, "class.read", {"id": "c1", "classId": "c1"}, ties)
        assert not authorizer.allows(parent, "class.read", {"id": "c2", "classId": "c2"}, ties)
        assert not authorizer.allows(teacher, "student.read", child, None)

    with_rig(tmp_path, scenario)
