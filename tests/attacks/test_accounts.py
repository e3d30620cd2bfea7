"""Nobody gets at an account, or at a seat in a kindergarten, that is not theirs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.support.platform import PASSWORD, People, running

SEAT = "handed over by star"


def new_user(username: str, role: str, **more: Any) -> dict[str, Any]:
    return {"username": username, "name": "某人", "roles": [role], "password": SEAT, **more}


@pytest.mark.parametrize("username", ["admin", "yuanzhang", "laoshi", "jiazhang"])
@pytest.mark.parametrize("tenant", ["tenant_sunshine", "tenant_star"])
def test_the_operator_seats_neither_themself_nor_anybody_who_exists(
    people: People, username: str, tenant: str
) -> None:
    admin = people("admin")
    answer = admin.post("/api/auth/users", new_user(username, "principal", tenantId=tenant))
    assert answer.status == 409
    assert admin.post("/api/auth/switch", {"tenantId": tenant}).status == 403
    assert admin.get("/api/auth/invitations").data["items"] == []


def test_the_operator_seats_nobody_but_principals(people: People) -> None:
    for role in ("teacher", "guardian", "health_officer"):
        body = new_user("mole", role, tenantId="tenant_star")
        assert people("admin").post("/api/auth/users", body).status == 403


def test_a_kindergarten_takes_over_neither_account_nor_child_of_another(people: People) -> None:
    star, teacher = people("yuanzhang2"), people("laoshi")
    assert star.post("/api/auth/users", new_user("laoshi", "teacher")).status == 201
    user = f"/api/auth/users/{teacher.user_id}"
    assert star.call("PATCH", user, {"password": "taken over!"}).status == 200  # that of the invitation
    for password in ("taken over!", SEAT):
        data = {"username": "laoshi", "password": password}
        assert teacher.http.post("/api/auth/login", json={"data": data}).status_code == 401
    assert star.call("PATCH", user, {"status": "active"}).status == 409
    assert teacher.post("/api/auth/switch", {"tenantId": "tenant_star"}).status == 403

    [invitation] = teacher.get("/api/auth/invitations").data["items"]
    assert invitation["tenantName"] == "星星幼儿园"
    one = f"/api/auth/invitations/{invitation['id']}"
    assert teacher.post(f"{one}/accept", {"password": "no idea"}).status == 400
    assert teacher.post(f"{one}/decline").status == 200
    assert star.get(user).status == 404
    assert people("yuanzhang").get(user).data["status"] == "active"
    people.sign_in("laoshi", PASSWORD)


def test_a_username_that_exists_looks_like_one_that_does_not(people: People) -> None:
    star = people("yuanzhang2")
    for username in ("baojian", "admin", "nobody.has.this"):
        without = {k: v for k, v in new_user(username, "teacher").items() if k != "password"}
        refused = star.post("/api/auth/users", without)
        assert (refused.status, refused.body["error"]["details"][0]["field"]) == (400, "password")
        invited = star.post("/api/auth/users", new_user(username, "teacher"))
        assert (invited.status, invited.data["status"]) == (201, "invited")
        assert star.call("DELETE", f"/api/auth/users/{invited.data['id']}").status == 200


def test_an_invited_operator_cannot_accept(people: People) -> None:
    star, admin = people("yuanzhang2"), people("admin")
    assert star.post("/api/auth/users", new_user("admin", "principal")).status == 201
    try:
        accepted = admin.post("/api/auth/invitations/tenant_star/accept", {"password": SEAT})
        assert accepted.status == 403
        assert admin.get("/api/tenant/students").status == 403
    finally:
        assert admin.post("/api/auth/invitations/tenant_star/decline").status == 200


def test_a_client_behind_a_proxy_does_not_dodge_the_lock_with_invented_addresses(tmp_path: Path) -> None:
    with running(tmp_path / "data", trusted_proxies='["127.0.0.1"]') as platform:

        def login(password: str, forwarded: str) -> int:
            data = {"username": "laoshi", "password": password}
            headers = {"x-forwarded-for": forwarded}
            url = platform.public + "/api/auth/login"
            return httpx.post(url, json={"data": data}, headers=headers, trust_env=False).status_code

        guesses = [login("wrong", f"203.0.113.{n}, 198.51.100.1") for n in range(5)]
        assert guesses == [401] * 5
        assert login(PASSWORD, "203.0.113.99, 198.51.100.1") == 429
        assert login(PASSWORD, "198.51.100.2") == 200
