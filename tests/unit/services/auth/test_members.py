from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs
from tests.support.auth import PASSWORD, PLATFORM, STAR, SUN, AuthRig, account, with_rig

from yuanlian.services.auth import repository


def new(username: str, *roles: str, **more: Any) -> dict[str, Any]:
    return {"username": username, "name": "新人", "roles": list(roles), **more}


async def post(rig: AuthRig, token: str, body: dict[str, Any]) -> Any:
    return await rig.call("POST", "/users", body, token=token)


def test_a_principal_adds_a_teacher_who_can_sign_in(tmp_path: Path) -> None:
    async def scenario(rig: AuthRig) -> None:
        token = await rig.token("yuanzhang")
        body = new(
            "Xin.Lai", "teacher", password="a long password", phone="13800000000", email="x@example.com"
        )
        answer = await post(rig, token, body)
        assert answer.status == 201
        assert answer.data["username"] == "xin.lai"
        assert "password" not in str(answer.body).lower()
        login = await rig.login("xin.lai", "a long password")
        assert login.data["user"]["roles"] == ["teacher"]
        one = await rig.call("GET", f"/users/{answer.data['id']}", token=token)
        assert one.data["lastUsedAt"] is not None
        assert one.data["phone"] == "13800000000"

    with_rig(tmp_path, scenario)


def test_the_list_has_this_tenants_users_only_in_pages(tmp_path: Path) -> None:
    async def scenario(rig: AuthRig) -> None:
        token = await rig.token("yuanzhang")
        first = (await rig.call("GET", "/users?limit=3", token=token)).data
        rest = (await rig.call("GET", f"/users?limit=3&cursor={first['nextCursor']}", token=token)).data
        names = [user["username"] for user in first["items"] + rest["items"]]
        assert names == ["baojian", "jiazhang", "laoshi", "yuanzhang"]
        assert (first["total"], rest["nextCursor"]) == (4, None)
        assert (await rig.call("GET", "/users?cursor=abc", token=token)).status == 400

    with_rig(tmp_path, scenario)


def test_administration_needs_its_permissions(tmp_path: Path) -> None:
    async def scenario(rig: AuthRig) -> None:
        for username in ("laoshi", "baojian", "jiazhang"):
            token = await rig.token(username, SUN)
            assert (await rig.call("GET", "/users", token=token)).status == 403
            assert (await post(rig, token, new("x1", "guardian", password=PASSWORD))).status == 403
            assert (await rig.call("PATCH", "/users/user_laoshi", {"name": "x"}, token=token)).status == 403
            assert (await rig.call("DELETE", "/users/user_baojian", token=token)).status == 403

    with_rig(tmp_path, scenario)


def test_users_of_another_tenant_do_not_exist_here(tmp_path: Path) -> None:
    async def scenario(rig: AuthRig) -> None:
        token = await rig.token("yuanzhang")
        for method, data in (("GET", None), ("PATCH", {"password": "taken over!"}), ("DELETE", None)):
            for user in ("user_yuanzhang2", "user_admin", "user_none"):
                assert (await rig.call(method, f"/users/{user}", data, token=token)).status == 404
        assert (await rig.login("yuanzhang2")).status == 200
        foreign = new("mole", "principal", password=PASSWORD, tenantId=STAR)
        assert (await post(rig, token, foreign)).status == 403

    with_rig(tmp_path, scenario)


def test_a_reset_password_ends_every_session(tmp_path: Path) -> None:
    async def scenario(rig: AuthRig) -> None:
        login = (await rig.login("laoshi")).data
        token = await rig.token("yuanzhang")
        change = {"password": "another password"}
        assert (await rig.call("PATCH", "/users/user_laoshi", change, token=token)).status == 200
        assert rig.refused(login["accessToken"])
        again = await rig.call("POST", "/refresh", {"refreshToken": login["refreshToken"]})
        assert again.status == 401
        assert (await rig.login("laoshi", "another password")).status == 200

    with_rig(tmp_path, scenario)


def test_other_roles_refuse_the_tokens_of_the_old_ones_at_once(tmp_path: Path) -> None:
    async def scenario(rig: AuthRig) -> None:
        login = (await rig.login("baojian")).data
        token = await rig.token("yuanzhang")
        answer = await rig.call("PATCH", "/users/user_baojian", {"roles": ["teacher"]}, token=token)
        assert answer.data["roles"] == ["teacher"]
        assert rig.refused(login["accessToken"])
        # In the very same second: the new token must not be taken for an old one.
        renewed = (await rig.call("POST", "/refresh", {"refreshToken": login["refreshToken"]})).data
        assert rig.admit(renewed["accessToken"]).roles == ("teacher",)
        same = await rig.call("PATCH", "/users/user_baojian", {"roles": ["teacher"]}, token=token)
        assert same.status == 200
        assert not rig.refused(renewed["accessToken"])

    with_rig(tmp_path, scenario)


def test_a_suspended_or_removed_member_is_out_here_and_stays_elsewhere(tmp_path: Path) -> None:
    async def scenario(rig: AuthRig) -> None:
        token = await rig.token("yuanzhang")
        for method, data in (("PATCH", {"status": "suspended"}), ("DELETE", None)):
            here = await rig.login("jiazhang", tenant=SUN) if method == "PATCH" else None
            there = await rig.token("jiazhang", STAR)
            assert (await rig.call(method, "/users/user_jiazhang", data, token=token)).status == 200
            if here is not None:
                assert rig.refused(here.data["accessToken"])
                again = {"refreshToken": here.data["refreshToken"]}
                assert (await rig.call("POST", "/refresh", again)).status in (401, 403)
            assert (await rig.login("jiazhang", tenant=SUN)).status == 403
            assert not rig.refused(there)
            rig.clock.advance(1000)

    with_rig(tmp_path, scenario)


def test_an_account_without_any_membership_is_gone(tmp_path: Path) -> None:
    async def scenario(rig: AuthRig) -> None:
        token, gone = await rig.token("yuanzhang"), await rig.token("baojian")
        assert (await rig.call("DELETE", "/users/user_baojian", token=token)).status == 200
        assert rig.refused(gone)
        assert (await rig.login("baojian")).status == 401
        assert await rig.database.read(lambda s: repository.user(s, "user_baojian")) is None
        assert (await post(rig, token, new("baojian", "teacher", password=PASSWORD))).status == 201

    with_rig(tmp_path, scenario)


def test_nobody_changes_their_own_powers(tmp_path: Path) -> None:
    async def scenario(rig: AuthRig) -> None:
        token = await rig.token("yuanzhang")
        for change in ({"roles": ["guardian"]}, {"status": "suspended"}, {"password": "without the old"}):
            assert (await rig.call("PATCH", "/users/user_yuanzhang", change, token=token)).status == 403
        assert (await rig.call("DELETE", "/users/user_yuanzhang", token=token)).status == 403
        renamed = await rig.call("PATCH", "/users/user_yuanzhang", {"name": "王园长"}, token=token)
        assert renamed.data["name"] == "王园长"

    with_rig(tmp_path, scenario)


def test_absent_fields_stay_and_null_takes_away(tmp_path: Path) -> None:
    async def scenario(rig: AuthRig) -> None:
        token = await rig.token("yuanzhang")
        one = "/users/user_laoshi"
        await rig.call("PATCH", one, {"phone": "13800000000", "email": "a@example.com"}, token=token)
        changed = await rig.call("PATCH", one, {"phone": None}, token=token)
        assert (changed.data["phone"], changed.data["email"]) == (None, "a@example.com")

    with_rig(tmp_path, scenario)


def test_a_seat_is_invited_until_its_person_signs_in(tmp_path: Path) -> None:
    async def scenario(rig: AuthRig) -> None:
        token = await rig.token("yuanzhang")
        created = (await post(rig, token, new("xinlai", "teacher", password=PASSWORD))).data
        one = f"/users/{created['id']}"
        assert created["status"] == "invited"
        assert (await rig.call("PATCH", one, {"status": "active"}, token=token)).status == 409
        assert (await rig.call("PATCH", one, {"password": "handed out anew"}, token=token)).status == 200
        assert (await rig.login("xinlai")).status == 401
        assert (await rig.login("xinlai", "handed out anew")).status == 200
        assert (await rig.call("GET", one, token=token)).data["status"] == "active"
        assert (await post(rig, token, new("xinlai", "teacher", password=PASSWORD))).status == 409

    with_rig(tmp_path, scenario)


def test_the_operator_seats_principals_with_new_accounts_and_nobody_else(tmp_path: Path) -> None:
    async def scenario(rig: AuthRig) -> None:
        token = await rig.token("admin")
        body = new("diyi", "principal", password=PASSWORD, tenantId=STAR)
        with capture_logs() as logs:
            assert (await post(rig, token, body)).status == 201
        [line] = [log for log in logs if log["event"] == "operator seated a principal"]
        assert (line["log_level"], line["operator"], line["tenant_id"]) == ("warning", "user_admin", STAR)
        assert line["username"] == "diyi"
        assert (await rig.login("diyi")).data["user"]["tenantId"] == STAR
        nowhere = new("x1", "principal", password=PASSWORD, tenantId="tenant_none")
        assert (await post(rig, token, nowhere)).status == 404
        platform = new("x2", "platform_admin", password=PASSWORD, tenantId=STAR)
        assert (await post(rig, token, platform)).status == 400
        for roles in (["teacher"], ["principal", "guardian"]):
            other = new("x3", *roles, password=PASSWORD, tenantId=STAR)
            assert (await post(rig, token, other)).status == 403
        for taken in ("admin", "ADMIN", "yuanzhang", "jiazhang", "laoshi"):
            seat = new(taken, "principal", password=PASSWORD, tenantId=STAR)
            assert (await post(rig, token, seat)).status == 409
        assert (await rig.call("POST", "/switch", {"tenantId": STAR}, token=token)).status == 403
        assert (await rig.call("GET", "/users/user_yuanzhang", token=token)).status == 404
        colleague = new("admin2", "platform_admin", password=PASSWORD)
        assert (await post(rig, token, colleague)).status == 201
        assert (await rig.login("admin2")).data["user"]["tenantId"] == PLATFORM
        mole = new("yuanzhang", "platform_admin", password=PASSWORD)
        assert (await post(rig, token, mole)).status == 409

    with_rig(tmp_path, scenario)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (new("x", "teacher", password=PASSWORD), "username"),
        (new("fine", "teacher"), "password"),
        (new("has space", "teacher", password=PASSWORD), "username"),
        (new("fine", "teacher", password="short"), "password"),
        (new("fine.name", "teacher", password="FINE.name"), "password"),
        (new("fine", "nosuch", password=PASSWORD), "roles[0]"),
        (new("fine", "platform_admin", password=PASSWORD), "roles[0]"),
        (new("fine", password=PASSWORD), "roles"),
        (new("fine", "teacher", password=PASSWORD, email="no"), "email"),
        (new("fine", "teacher", password=PASSWORD, email="a@b.cn\n"), "email"),
        (new("fine", "teacher", password=PASSWORD) | {"name": "  "}, "name"),
        (new("fine", "teacher", password=PASSWORD) | {"name": "王\r\nBcc: x"}, "name"),
        (new("fine", "teacher", password=PASSWORD, managedBy="x"), "managedBy"),
    ],
)
def test_bad_fields_are_named(tmp_path: Path, body: dict[str, Any], field: str) -> None:
    async def scenario(rig: AuthRig) -> None:
        answer = await post(rig, await rig.token("yuanzhang"), body)
        assert (answer.status, answer.fields) == (400, [field])

    with_rig(tmp_path, scenario)


def test_hundreds_of_accounts_are_provisioned_at_once(tmp_path: Path) -> None:
    async def scenario(rig: AuthRig) -> None:
        await rig.seat(*(account(f"parent{n}", (SUN, "guardian")) for n in range(420)))
        assert (await rig.login("parent419")).status == 200

    with_rig(tmp_path, scenario)
