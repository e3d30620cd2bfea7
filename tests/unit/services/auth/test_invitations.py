from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.support.auth import PASSWORD, PLATFORM, STAR, SUN, AuthRig, with_rig

from yuanlian.kit.tenancy.directory import Tenant
from yuanlian.services.auth import repository

SEAT = "handed over by star"


async def invite(rig: AuthRig, username: str, role: str = "teacher", by: str = "yuanzhang2") -> Any:
    body = {"username": username, "name": "新人", "roles": [role], "password": SEAT}
    return await rig.call("POST", "/users", body, token=await rig.token(by))


async def accept(rig: AuthRig, token: str, tenant: str = STAR, password: str = SEAT, **more: Any) -> Any:
    path = f"/invitations/{tenant}/accept"
    return await rig.call("POST", path, {"password": password}, token=token, **more)


async def manager(rig: AuthRig, user_id: str) -> str | None:
    user = await rig.database.read(lambda s: repository.user(s, user_id))
    assert user is not None
    return user.managed_by


def test_who_has_an_account_is_a_member_only_after_accepting(tmp_path: Path) -> None:
    async def scenario(rig: AuthRig) -> None:
        assert (await invite(rig, "laoshi")).status == 201
        token = await rig.token("laoshi")
        assert (await rig.login("laoshi", tenant=STAR)).status == 403
        assert (await rig.login("laoshi", SEAT)).status == 401
        assert (await rig.call("POST", "/switch", {"tenantId": STAR}, token=token)).status == 403
        assert [m["tenantId"] for m in (await rig.call("GET", "/me", token=token)).data["memberships"]] == [
            SUN
        ]

        [invitation] = (await rig.call("GET", "/invitations", token=token)).data["items"]
        assert (invitation["id"], invitation["tenantName"]) == (STAR, "星星幼儿园")
        assert (invitation["name"], invitation["roles"]) == ("新人", ["teacher"])
        accepted = await accept(rig, token)
        assert accepted.status == 200
        assert accepted.data == {"tenantId": STAR, "tenantName": "星星幼儿园", "roles": ["teacher"]}
        switched = await rig.call("POST", "/switch", {"tenantId": STAR}, token=token)
        assert switched.data["user"]["name"] == "新人"
        assert (await rig.login("laoshi", tenant=SUN)).data["user"]["name"] == "名-laoshi"
        assert (await rig.call("GET", "/invitations", token=token)).data["items"] == []
        assert (await accept(rig, token)).status == 404

    with_rig(tmp_path, scenario)


def test_the_answer_does_not_tell_who_has_an_account(tmp_path: Path) -> None:
    async def scenario(rig: AuthRig) -> None:
        token = await rig.token("yuanzhang2")
        answers = []
        for username in ("laoshi", "admin", "nobody.yet"):
            one = await invite(rig, username)
            path = f"/users/{one.data['id']}"
            steps = [one, await invite(rig, username), await rig.call("GET", path, token=token)]
            changes = ({"password": "handed over anew"}, {"status": "suspended"}, {"roles": ["guardian"]})
            steps += [await rig.call("PATCH", path, change, token=token) for change in changes]
            steps.append(await rig.call("DELETE", path, token=token))
            steps.append(await invite(rig, username))
            answers.append([(step.status, seen(step)) for step in steps])
        assert answers[0] == answers[1] == answers[2]
        assert [status for status, _ in answers[0]] == [201, 409, 200, 200, 409, 200, 200, 201]

    def seen(answer: Any) -> Any:
        hidden = {"id", "username"}
        return {k: v for k, v in answer.body.get("data", {}).items() if k not in hidden} or answer.message

    with_rig(tmp_path, scenario)


def test_a_seat_is_taken_with_the_password_that_came_with_it(tmp_path: Path) -> None:
    """Else a stranger who registered a likely username first would collect the invitation."""

    async def scenario(rig: AuthRig) -> None:
        await invite(rig, "laoshi", "guardian")
        token = await rig.token("laoshi")
        for wrong in [PASSWORD, *(f"guess number {n}" for n in range(4))]:
            answer = await accept(rig, token, password=wrong)
            assert (answer.status, answer.fields) == (400, ["password"])
        assert (await accept(rig, token)).status == 429
        assert (await rig.login("laoshi")).status == 200  # the account itself is not locked by it
        assert (await accept(rig, token, address="198.51.100.7")).status == 200

    with_rig(tmp_path, scenario)


def test_a_password_that_an_administrator_knows_does_not_open_a_second_kindergarten(tmp_path: Path) -> None:
    async def scenario(rig: AuthRig) -> None:
        sun = await rig.token("yuanzhang")
        reset = {"password": "known to sun's office"}
        assert (await rig.call("PATCH", "/users/user_laoshi", reset, token=sun)).status == 200
        await invite(rig, "laoshi")
        token = await rig.token("laoshi", password=reset["password"])
        assert (await accept(rig, token)).status == 409
        own = {"current": reset["password"], "next": "known to nobody else"}
        assert (await rig.call("POST", "/password", own, token=token)).status == 200
        assert (await accept(rig, token)).status == 200

    with_rig(tmp_path, scenario)


def test_no_kindergarten_takes_a_shared_account_over_not_even_as_the_last(tmp_path: Path) -> None:
    async def scenario(rig: AuthRig) -> None:
        sun, star = await rig.token("yuanzhang"), await rig.token("yuanzhang2")
        reset = {"password": "taken over!"}
        await invite(rig, "laoshi")
        assert await manager(rig, "user_laoshi") == SUN
        await accept(rig, await rig.token("laoshi"))
        for token in (sun, star):
            assert (await rig.call("PATCH", "/users/user_laoshi", reset, token=token)).status == 403
        assert (await rig.call("DELETE", "/users/user_laoshi", token=sun)).status == 200
        assert (await rig.call("PATCH", "/users/user_laoshi", reset, token=star)).status == 403
        assert await manager(rig, "user_laoshi") is None
        assert (await rig.login("laoshi")).data["user"]["tenantId"] == STAR

    with_rig(tmp_path, scenario)


def test_an_account_shared_from_the_start_belongs_to_its_person_too(tmp_path: Path) -> None:
    async def scenario(rig: AuthRig) -> None:
        star = await rig.token("yuanzhang2")
        gone = await rig.call("DELETE", "/users/user_jiazhang", token=await rig.token("yuanzhang"))
        assert gone.status == 200
        reset = {"password": "taken over!"}
        assert (await rig.call("PATCH", "/users/user_jiazhang", reset, token=star)).status == 403

    with_rig(tmp_path, scenario)


def test_an_invitation_is_declined_or_withdrawn_and_leaves_no_trace(tmp_path: Path) -> None:
    async def scenario(rig: AuthRig) -> None:
        token, star = await rig.token("laoshi"), await rig.token("yuanzhang2")
        for end in ("decline", "withdraw"):
            assert (await invite(rig, "laoshi")).status == 201
            if end == "decline":
                assert (await rig.call("POST", f"/invitations/{STAR}/decline", token=token)).status == 200
            else:
                assert (await rig.call("DELETE", "/users/user_laoshi", token=star)).status == 200
            assert (await accept(rig, token)).status == 404
            assert (await rig.call("GET", "/users/user_laoshi", token=star)).status == 404
        assert (await rig.call("POST", f"/invitations/{STAR}/decline", token=token)).status == 404
        # A membership is no invitation: it cannot be declined away from under the administration.
        assert (await rig.call("POST", f"/invitations/{SUN}/decline", token=token)).status == 404
        assert await manager(rig, "user_laoshi") == SUN
        assert (await rig.login("laoshi")).status == 200

    with_rig(tmp_path, scenario)


def test_an_account_that_loses_its_last_seat_goes_with_its_invitations(tmp_path: Path) -> None:
    async def scenario(rig: AuthRig) -> None:
        await invite(rig, "baojian")
        sun, star = await rig.token("yuanzhang"), await rig.token("yuanzhang2")
        assert (await rig.call("DELETE", "/users/user_baojian", token=sun)).status == 200
        assert (await rig.call("GET", "/users/user_baojian", token=star)).status == 404
        assert (await invite(rig, "baojian")).status == 201
        assert (await rig.login("baojian", SEAT)).data["user"]["tenantId"] == STAR

    with_rig(tmp_path, scenario)


def test_invitations_of_others_do_not_exist(tmp_path: Path) -> None:
    async def scenario(rig: AuthRig) -> None:
        await invite(rig, "laoshi")
        for username in ("baojian", "yuanzhang", "jiazhang"):
            token = await rig.token(username, SUN)
            assert (await rig.call("GET", "/invitations", token=token)).data["items"] == []
            assert (await accept(rig, token)).status == 404
            assert (await rig.call("POST", f"/invitations/{STAR}/decline", token=token)).status == 404
        assert (await rig.call("GET", "/invitations")).status == 401

    with_rig(tmp_path, scenario)


def test_an_operator_never_gets_a_seat_in_a_kindergarten(tmp_path: Path) -> None:
    async def scenario(rig: AuthRig) -> None:
        await invite(rig, "admin", "principal")
        token = await rig.token("admin")
        assert (await accept(rig, token)).status == 403
        assert (await rig.call("POST", "/switch", {"tenantId": STAR}, token=token)).status == 403
        assert (await rig.login("admin")).data["user"]["tenantId"] == PLATFORM

    with_rig(tmp_path, scenario)


def test_nobody_accepts_into_a_suspended_kindergarten(tmp_path: Path) -> None:
    async def scenario(rig: AuthRig) -> None:
        await invite(rig, "laoshi")
        token = await rig.token("laoshi")
        rig.directory.put(Tenant(STAR, "星星幼儿园", status="suspended"))
        assert (await rig.call("GET", "/invitations", token=token)).data["items"] == []
        assert (await accept(rig, token)).status == 403

    with_rig(tmp_path, scenario)
