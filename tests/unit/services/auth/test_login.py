from __future__ import annotations

from pathlib import Path

from tests.support.auth import PASSWORD, STAR, SUN, AuthRig, account, with_rig

from yuanlian.kit.tenancy.directory import Tenant
from yuanlian.services.auth import repository
from yuanlian.services.auth.passwords import Argon2Parameters, hash_password


def test_login_answers_in_the_contracts_shape(tmp_path: Path) -> None:
    async def scenario(rig: AuthRig) -> None:
        answer = await rig.login("laoshi")
        assert answer.status == 200
        assert set(answer.data) == {"accessToken", "refreshToken", "expiresIn", "user", "memberships"}
        assert answer.data["expiresIn"] == 3600
        assert answer.data["memberships"] == [
            {"tenantId": SUN, "tenantName": "阳光幼儿园", "roles": ["teacher"]}
        ]
        user = answer.data["user"]
        assert set(user) == {"id", "name", "tenantId", "roles", "permissions"}
        assert (user["id"], user["tenantId"], user["roles"]) == ("user_laoshi", SUN, ["teacher"])
        assert "attendance.write" in user["permissions"]

        principal = rig.admit(answer.data["accessToken"])
        assert principal.conditions["student.read"] == ("resource.classId in user.classIds",)
        assert principal.holds_unconditionally("notification.read")

    with_rig(tmp_path, scenario)


def test_unknown_user_and_wrong_password_are_answered_alike(tmp_path: Path) -> None:
    async def scenario(rig: AuthRig) -> None:
        wrong = await rig.login("laoshi", "nope")
        unknown = await rig.login("nobody", "nope")
        assert (wrong.status, wrong.message) == (401, "Wrong username or password")
        assert (unknown.status, unknown.message) == (wrong.status, wrong.message)
        assert unknown.body["error"] == wrong.body["error"]

    with_rig(tmp_path, scenario)


def test_usernames_are_found_in_any_case_and_width(tmp_path: Path) -> None:
    async def scenario(rig: AuthRig) -> None:
        assert (await rig.login(" LaoShi ")).status == 200
        assert (await rig.login("ｌａｏｓｈｉ")).status == 200

    with_rig(tmp_path, scenario)


def test_a_tenant_that_is_not_a_membership_is_403(tmp_path: Path) -> None:
    async def scenario(rig: AuthRig) -> None:
        assert (await rig.login("laoshi", tenant=STAR)).status == 403
        assert (await rig.login("laoshi", headers={"x-tenant-id": STAR})).status == 403
        assert (await rig.login("laoshi", tenant="tenant_none")).status == 403

    with_rig(tmp_path, scenario)


def test_without_a_tenant_the_last_used_one_is_taken_else_the_first(tmp_path: Path) -> None:
    async def scenario(rig: AuthRig) -> None:
        assert (await rig.login("jiazhang")).data["user"]["tenantId"] == SUN
        for tenant in (STAR, SUN):
            rig.clock.advance(1000)
            assert (await rig.login("jiazhang", tenant=tenant)).data["user"]["tenantId"] == tenant
            rig.clock.advance(1000)
            again = await rig.login("jiazhang")
            assert again.data["user"]["tenantId"] == tenant
            assert {m["tenantId"] for m in again.data["memberships"]} == {SUN, STAR}

    with_rig(tmp_path, scenario)


def test_the_domains_tenant_is_the_default_and_the_body_wins(tmp_path: Path) -> None:
    async def scenario(rig: AuthRig) -> None:
        by_domain = await rig.login("jiazhang", headers={"x-tenant-id": STAR})
        assert by_domain.data["user"]["tenantId"] == STAR
        chosen = await rig.login("jiazhang", tenant=SUN, headers={"x-tenant-id": STAR})
        assert chosen.data["user"]["tenantId"] == SUN

    with_rig(tmp_path, scenario)


def test_suspended_tenants_are_skipped_and_refused(tmp_path: Path) -> None:
    async def scenario(rig: AuthRig) -> None:
        await rig.login("jiazhang", tenant=STAR)
        rig.directory.put(Tenant(STAR, "星星幼儿园", status="suspended"))
        answer = await rig.login("jiazhang")
        assert answer.data["user"]["tenantId"] == SUN
        assert [m["tenantId"] for m in answer.data["memberships"]] == [SUN]
        assert (await rig.login("jiazhang", tenant=STAR)).status == 403
        assert (await rig.login("yuanzhang2")).status == 403

    with_rig(tmp_path, scenario)


def test_a_hash_of_other_parameters_is_renewed_at_login(tmp_path: Path) -> None:
    async def scenario(rig: AuthRig) -> None:
        old = hash_password(PASSWORD, Argon2Parameters(time_cost=2, memory_kib=16))
        await rig.seat(account("veteran", (SUN, "teacher"), password_hash=old))
        assert (await rig.login("veteran")).status == 200
        stored = await rig.database.read(lambda s: repository.user_by_name(s, "veteran"))
        assert stored is not None
        assert stored.password_hash != old
        assert (await rig.login("veteran")).status == 200

    with_rig(tmp_path, scenario)


def test_bad_bodies_are_400_with_fields(tmp_path: Path) -> None:
    async def scenario(rig: AuthRig) -> None:
        answer = await rig.call("POST", "/login", {"username": 1, "extra": True})
        assert answer.status == 400
        assert sorted(answer.fields) == ["extra", "password", "username"]

    with_rig(tmp_path, scenario)


def test_routes_of_the_signed_in_need_a_caller(tmp_path: Path) -> None:
    async def scenario(rig: AuthRig) -> None:
        for method, path in (
            ("GET", "/me"),
            ("POST", "/logout"),
            ("GET", "/sessions"),
            ("GET", "/users"),
            ("GET", "/roles"),
        ):
            assert (await rig.call(method, path)).status == 401, path

    with_rig(tmp_path, scenario)
