from __future__ import annotations

import asyncio
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session
from tests.support.auth import PASSWORD, PASSWORD_HASH, STAR, SUN, AuthRig, with_rig

from yuanlian.kit.database.schema import Base
from yuanlian.kit.tenancy.directory import Tenant
from yuanlian.kit.tenancy.scope import across_tenants
from yuanlian.services.auth import repository
from yuanlian.services.auth.models import RefreshToken
from yuanlian.services.auth.signin.sessions import GRACE_MS, OPEN_LIMIT, REFRESH_LIFETIME_MS
from yuanlian.services.auth.tokens import digest


async def refresh(rig: AuthRig, token: str) -> int | dict[str, str]:
    answer = await rig.call("POST", "/refresh", {"refreshToken": token})
    return answer.data if answer.status == 200 else answer.status


async def renewed(rig: AuthRig, token: str) -> dict[str, str]:
    result = await refresh(rig, token)
    assert isinstance(result, dict), result
    return result


def test_each_use_rotates_the_refresh_token(tmp_path: Path) -> None:
    async def scenario(rig: AuthRig) -> None:
        first = (await rig.login("laoshi")).data
        rig.clock.advance(60_000)
        second = await renewed(rig, first["refreshToken"])
        assert second["refreshToken"] != first["refreshToken"]
        before, after = rig.admit(first["accessToken"]), rig.admit(second["accessToken"])
        assert (after.session_id, after.tenant_id) == (before.session_id, SUN)
        assert after.expires_at == before.expires_at + 60

        rig.clock.advance(60_000)
        await renewed(rig, second["refreshToken"])

    with_rig(tmp_path, scenario)


def test_refresh_tokens_are_hashed_at_rest(tmp_path: Path) -> None:
    async def scenario(rig: AuthRig) -> None:
        secret = (await rig.login("laoshi")).data["refreshToken"]
        stored = await rig.database.read(lambda s: s.get(RefreshToken, digest(secret)))
        assert stored is not None
        with across_tenants("test"):
            everything = await rig.database.read(_every_value)
        assert digest(secret) in everything
        assert secret not in everything
        assert PASSWORD not in everything

    with_rig(tmp_path, scenario)


def _every_value(session: Session) -> str:
    return str([session.execute(select(table)).all() for table in Base.metadata.sorted_tables])


def test_within_the_grace_the_previous_token_gives_a_fresh_pair(tmp_path: Path) -> None:
    async def scenario(rig: AuthRig) -> None:
        first = (await rig.login("laoshi")).data["refreshToken"]
        second = (await renewed(rig, first))["refreshToken"]
        rig.clock.advance(GRACE_MS)
        third = (await renewed(rig, first))["refreshToken"]
        assert len({first, second, third}) == 3
        assert isinstance(await refresh(rig, second), dict)
        assert isinstance(await refresh(rig, third), dict)

    with_rig(tmp_path, scenario)


def test_the_grace_counts_from_the_first_use(tmp_path: Path) -> None:
    async def scenario(rig: AuthRig) -> None:
        first = (await rig.login("laoshi")).data["refreshToken"]
        await renewed(rig, first)
        rig.clock.advance(GRACE_MS - 1)
        await renewed(rig, first)
        rig.clock.advance(2)
        assert await refresh(rig, first) == 401

    with_rig(tmp_path, scenario)


def test_reuse_after_the_grace_ends_the_family(tmp_path: Path) -> None:
    async def scenario(rig: AuthRig) -> None:
        first = (await rig.login("laoshi")).data
        other = (await rig.login("laoshi")).data
        second = await renewed(rig, first["refreshToken"])
        rig.clock.advance(GRACE_MS + 1)
        assert await refresh(rig, first["refreshToken"]) == 401
        assert await refresh(rig, second["refreshToken"]) == 401
        assert rig.refused(second["accessToken"])
        assert not rig.refused(other["accessToken"])
        assert isinstance(await refresh(rig, other["refreshToken"]), dict)

    with_rig(tmp_path, scenario)


def test_the_same_token_sent_many_times_at_once_ends_nothing(tmp_path: Path) -> None:
    async def scenario(rig: AuthRig) -> None:
        first = (await rig.login("laoshi")).data["refreshToken"]
        results = await asyncio.gather(*(refresh(rig, first) for _ in range(10)))
        assert all(isinstance(result, dict) for result in results)

    with_rig(tmp_path, scenario)


def test_refresh_tokens_expire_and_garbage_is_refused(tmp_path: Path) -> None:
    async def scenario(rig: AuthRig) -> None:
        login = (await rig.login("laoshi")).data
        assert await refresh(rig, login["accessToken"][:256]) == 401
        assert await refresh(rig, "x") == 401
        rig.clock.advance(REFRESH_LIFETIME_MS)
        assert await refresh(rig, login["refreshToken"]) == 401

    with_rig(tmp_path, scenario)


def test_a_suspended_tenant_refreshes_nobody(tmp_path: Path) -> None:
    async def scenario(rig: AuthRig) -> None:
        login = (await rig.login("laoshi")).data
        rig.directory.put(Tenant(SUN, "阳光幼儿园", status="suspended"))
        assert await refresh(rig, login["refreshToken"]) == 403

    with_rig(tmp_path, scenario)


def test_logout_ends_access_and_refresh_at_once(tmp_path: Path) -> None:
    async def scenario(rig: AuthRig) -> None:
        login = (await rig.login("laoshi")).data
        elsewhere = (await rig.login("laoshi")).data
        assert (await rig.call("POST", "/logout", token=login["accessToken"])).data == {"ended": 1}
        assert rig.refused(login["accessToken"])
        assert await refresh(rig, login["refreshToken"]) == 401
        assert not rig.refused(elsewhere["accessToken"])

    with_rig(tmp_path, scenario)


def test_switch_keeps_the_session_and_is_remembered(tmp_path: Path) -> None:
    async def scenario(rig: AuthRig) -> None:
        login = (await rig.login("jiazhang", tenant=SUN)).data
        rig.clock.advance(1000)
        answer = await rig.call("POST", "/switch", {"tenantId": STAR}, token=login["accessToken"])
        assert answer.status == 200
        there, here = rig.admit(answer.data["accessToken"]), rig.admit(login["accessToken"])
        assert (there.tenant_id, there.session_id) == (STAR, here.session_id)
        rig.clock.advance(GRACE_MS + 1)
        again = await renewed(rig, answer.data["refreshToken"])
        assert rig.admit(again["accessToken"]).tenant_id == STAR
        assert (await rig.login("jiazhang")).data["user"]["tenantId"] == STAR

    with_rig(tmp_path, scenario)


def test_nobody_switches_to_where_they_do_not_belong(tmp_path: Path) -> None:
    async def scenario(rig: AuthRig) -> None:
        teacher = await rig.token("laoshi")
        assert (await rig.call("POST", "/switch", {"tenantId": STAR}, token=teacher)).status == 403
        parent = await rig.token("jiazhang", SUN)
        rig.directory.put(Tenant(STAR, "星星幼儿园", status="suspended"))
        assert (await rig.call("POST", "/switch", {"tenantId": STAR}, token=parent)).status == 403

    with_rig(tmp_path, scenario)


def test_an_ended_session_cannot_switch(tmp_path: Path) -> None:
    async def scenario(rig: AuthRig) -> None:
        principal = rig.admit(await rig.token("jiazhang", SUN))
        await rig.call("POST", "/logout", principal=principal)
        answer = await rig.call("POST", "/switch", {"tenantId": STAR}, principal=principal)
        assert answer.status == 401

    with_rig(tmp_path, scenario)


def test_me_tells_what_the_token_grants(tmp_path: Path) -> None:
    async def scenario(rig: AuthRig) -> None:
        me = (await rig.call("GET", "/me", token=await rig.token("jiazhang", SUN))).data
        assert me["user"]["roles"] == ["guardian"]
        assert "attendance.write" not in me["user"]["permissions"]
        assert {m["tenantId"] for m in me["memberships"]} == {SUN, STAR}

    with_rig(tmp_path, scenario)


def test_own_sessions_are_listed_and_kicked_out(tmp_path: Path) -> None:
    async def scenario(rig: AuthRig) -> None:
        old = await rig.token("laoshi")
        rig.clock.advance(1000)
        here = (await rig.login("laoshi", headers={"user-agent": "Tablet"}, address="192.0.2.9")).data
        token = here["accessToken"]
        items = (await rig.call("GET", "/sessions", token=token)).data["items"]
        assert [item["current"] for item in items] == [True, False]
        assert (items[0]["userAgent"], items[0]["address"]) == ("Tablet", "192.0.2.9")

        other = items[1]["id"]
        assert (await rig.call("DELETE", f"/sessions/{other}", token=token)).status == 200
        assert rig.refused(old)
        assert (await rig.call("DELETE", f"/sessions/{other}", token=token)).status == 404
        assert len((await rig.call("GET", "/sessions", token=token)).data["items"]) == 1

    with_rig(tmp_path, scenario)


def test_nobody_ends_the_session_of_another(tmp_path: Path) -> None:
    async def scenario(rig: AuthRig) -> None:
        victim = await rig.token("laoshi")
        session_id = rig.admit(victim).session_id
        token = await rig.token("yuanzhang")
        assert (await rig.call("DELETE", f"/sessions/{session_id}", token=token)).status == 404
        assert (await rig.call("DELETE", "/sessions", token=token)).data == {"ended": 0}
        assert not rig.refused(victim)

    with_rig(tmp_path, scenario)


def test_the_least_recently_used_sessions_make_room(tmp_path: Path) -> None:
    async def scenario(rig: AuthRig) -> None:
        first = (await rig.login("laoshi")).data
        for _ in range(OPEN_LIMIT):
            rig.clock.advance(1)
            last = (await rig.login("laoshi")).data
        assert await refresh(rig, first["refreshToken"]) == 401
        listed = (await rig.call("GET", "/sessions", token=last["accessToken"])).data
        assert listed["total"] == OPEN_LIMIT

    with_rig(tmp_path, scenario)


def test_a_password_changed_during_a_login_wins(tmp_path: Path) -> None:
    async def scenario(rig: AuthRig) -> None:
        token = await rig.token("yuanzhang")
        reset = rig.call("PATCH", "/users/user_laoshi", {"password": "the new one"}, token=token)
        logins = [rig.login("laoshi") for _ in range(5)]
        answers = await asyncio.gather(*logins[:2], reset, *logins[2:])
        assert answers[2].status == 200
        for answer in answers[:2] + answers[3:]:
            if answer.status == 200:
                assert rig.refused(answer.data["accessToken"])
        assert (await rig.login("laoshi", "the new one")).status == 200

    with_rig(tmp_path, scenario)


def test_a_new_password_ends_all_other_sessions(tmp_path: Path) -> None:
    async def scenario(rig: AuthRig) -> None:
        other, here = await rig.token("laoshi"), await rig.token("laoshi")
        change = {"current": PASSWORD, "next": "correct horse battery"}
        assert (await rig.call("POST", "/password", change, token=here)).data == {"ended": 1}
        assert rig.refused(other)
        assert not rig.refused(here)
        assert (await rig.login("laoshi")).status == 401
        assert (await rig.login("laoshi", "correct horse battery")).status == 200

    with_rig(tmp_path, scenario)


def test_unacceptable_passwords_are_refused(tmp_path: Path) -> None:
    async def scenario(rig: AuthRig) -> None:
        token = await rig.token("yuanzhang")
        for bad in ("short", "x" * 129, "YuanZhang", "aaaaaaaa", PASSWORD):
            change = {"current": PASSWORD, "next": bad}
            answer = await rig.call("POST", "/password", change, token=token)
            assert (answer.status, answer.fields) == (400, ["next"]), bad
        wrong = await rig.call("POST", "/password", {"current": "no", "next": "a good one"}, token=token)
        assert (wrong.status, wrong.fields) == (400, ["current"])
        assert (await rig.login("yuanzhang")).status == 200

    with_rig(tmp_path, scenario)


def test_revocations_survive_a_restart(tmp_path: Path) -> None:
    async def scenario(rig: AuthRig) -> None:
        gone = await rig.token("laoshi")
        await rig.call("POST", "/logout", token=gone)
        demoted, principal = await rig.token("baojian"), await rig.token("yuanzhang")
        await rig.call("PATCH", "/users/user_baojian", {"roles": ["teacher"]}, token=principal)
        rig.restart()
        assert not rig.refused(gone), "the set is empty until it is loaded"
        assert rig.module.start is not None
        await rig.module.start()
        assert rig.refused(gone)
        assert rig.refused(demoted)
        assert not rig.refused(principal)

    with_rig(tmp_path, scenario)


def test_an_administrators_reset_beats_a_change_by_whoever_holds_the_session(tmp_path: Path) -> None:
    async def scenario(rig: AuthRig) -> None:
        admin = await rig.token("yuanzhang")
        for turn in range(4):
            old, own, reset = (
                (PASSWORD if not turn else f"the reset {turn - 1}"),
                f"my own {turn}",
                f"the reset {turn}",
            )
            token = await rig.token("laoshi", password=old)
            principal = rig.admit(token)
            change = rig.call("POST", "/password", {"current": old, "next": own}, principal=principal)
            patch = rig.call("PATCH", "/users/user_laoshi", {"password": reset}, token=admin)
            await asyncio.gather(*((change, patch) if turn % 2 else (patch, change)))
            assert (await rig.login("laoshi", reset)).status == 200
            assert (await rig.login("laoshi", own)).status == 401
            assert rig.refused(token)
            rig.clock.advance(1000)

    with_rig(tmp_path, scenario)


def test_a_renewed_hash_never_replaces_a_password_changed_meanwhile(tmp_path: Path) -> None:
    async def scenario(rig: AuthRig) -> None:
        def renew_late(session: Session) -> tuple[bool, bool]:
            changed = repository.replace_password(session, "user_laoshi", PASSWORD_HASH, "changed")
            late = repository.replace_password(session, "user_laoshi", PASSWORD_HASH, "renewed")
            return changed, late

        assert await rig.database.write(renew_late) == (True, False)
        user = await rig.database.read(lambda s: repository.user(s, "user_laoshi"))
        assert user is not None
        assert user.password_hash == "changed"

    with_rig(tmp_path, scenario)


def test_the_list_of_sessions_is_one_page_and_knows_no_cursor(tmp_path: Path) -> None:
    async def scenario(rig: AuthRig) -> None:
        token = await rig.token("yuanzhang")
        for path in ("/sessions", "/roles", "/permissions"):
            assert (await rig.call("GET", path, token=token)).data["nextCursor"] is None
            answer = await rig.call("GET", f"{path}?cursor=abc", token=token)
            assert (answer.status, answer.fields) == (400, ["cursor"])

    with_rig(tmp_path, scenario)


def test_the_api_document_says_what_the_routes_answer_and_which_are_public(tmp_path: Path) -> None:
    async def scenario(rig: AuthRig) -> None:
        paths = rig.module.app.litestar.openapi_schema.to_schema()["paths"]
        for name in ("login", "refresh", "switch", "logout", "password"):
            assert set(paths[f"/api/auth/{name}"]["post"]["responses"]) - {"400"} == {"200"}, name
        public = {path for path, item in paths.items() for each in item.values() if each.get("security")}
        assert public == {"/api/auth/login", "/api/auth/refresh"}
        assert not [path for path in paths if "id_}" in path.replace("_id}", "}")]

    with_rig(tmp_path, scenario)
