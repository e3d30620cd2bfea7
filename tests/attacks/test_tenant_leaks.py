"""Nobody sees across kindergartens, and inside one only what is theirs."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.support.platform import People
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

EVENTS = "/api/tenant/attendance/events"


@pytest.mark.parametrize("username", ["yuanzhang", "laoshi", "jiazhang2", "admin"])
@pytest.mark.parametrize("tenant", ["tenant_star", "tenant_none", "tenant_sunshine, tenant_star", "PLATFORM"])
def test_a_token_with_another_tenants_header_is_403(people: People, username: str, tenant: str) -> None:
    person = people(username)
    answer = person.get("/api/tenant/students", headers={"x-tenant-id": tenant})
    assert answer.status == 403


@pytest.mark.parametrize(
    "header",
    ["x_tenant_id", "x-user-id", "x-identity", "x_identity", "x-user-roles", "x-forwarded-host"],
)
def test_identity_headers_from_outside_change_nothing(people: People, header: str) -> None:
    guardian = people("jiazhang2")
    answer = guardian.get("/api/tenant/students", headers={header: "tenant_star"})
    assert [s["id"] for s in answer.data["items"]] == ["student_sun_002"]


def test_an_internal_token_is_no_access_token_and_the_other_way_round(people: People) -> None:
    guardian = people("jiazhang2")
    forged = guardian.get("/api/tenant/students", headers={"x-identity": guardian.token, "authorization": ""})
    assert forged.status == 401


READS = [
    "/api/tenant/students/{student}",
    "/api/tenant/students/{student}/guardians",
    "/api/tenant/classes/{class_}",
    "/api/tenant/attendance/board?classId={class_}",
    EVENTS + "?studentId={student}",
]


@pytest.mark.parametrize("path", READS)
@pytest.mark.parametrize("username", ["yuanzhang", "laoshi", "baojian"])
def test_another_kindergartens_things_do_not_exist(people: People, username: str, path: str) -> None:
    answer = people(username).get(path.format(student="student_star_001", class_="class_star_01"))
    assert answer.status in (403, 404)
    assert "star" not in json.dumps(answer.body.get("data", ""))


@pytest.mark.parametrize("path", READS)
@pytest.mark.parametrize("username", ["laoshi", "jiazhang2"])
def test_inside_a_kindergarten_other_classes_and_children_are_refused(
    people: People, username: str, path: str
) -> None:
    answer = people(username).get(path.format(student="student_sun_100", class_="class_sun_04"))
    assert answer.status == 403


def test_lists_hold_only_what_is_theirs(people: People) -> None:
    def ids(username: str, path: str) -> set[str]:
        return {item["id"] for item in people(username).get(path).data["items"]}

    assert len(ids("laoshi", "/api/tenant/students?limit=200")) == 25
    assert ids("laoshi", "/api/tenant/classes") == {"class_sun_01"}
    assert ids("jiazhang2", "/api/tenant/students") == {"student_sun_002"}
    assert ids("jiazhang2", "/api/tenant/classes") <= {"class_sun_01"}
    board = people("jiazhang2").get("/api/tenant/attendance/board").data
    assert [s["studentId"] for s in board["students"]] == ["student_sun_002"]
    assert board["counts"]["expected"] == 1
    for item in people("jiazhang2").get(EVENTS + "?limit=200").data["items"]:
        assert item["studentId"] == "student_sun_002"


WRITES: list[tuple[str, str, Any]] = [
    ("POST", EVENTS, {"studentId": "student_star_001", "type": "check_in"}),
    ("PATCH", "/api/tenant/students/student_star_001", {"name": "改名"}),
    ("DELETE", "/api/tenant/students/student_star_001", None),
    ("DELETE", "/api/tenant/classes/class_star_01", None),
    ("POST", "/api/tenant/students/student_star_001/guardians",
     {"name": "某人", "phone": "13900000000", "relation": "父亲"}),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path", "data"), WRITES)
@pytest.mark.parametrize("username", ["yuanzhang", "laoshi", "jiazhang2", "admin"])
def test_writes_to_another_kindergarten_fail(
    people: People, username: str, method: str, path: str, data: Any
) -> None:
    answer = people(username).call(method, path, data)
    assert answer.status in (403, 404)
    child = people("yuanzhang2").get("/api/tenant/students/student_star_001").data
    assert child["name"] != "改名"


def test_a_guardian_checks_nobody_in(people: People) -> None:
    assert people("jiazhang2").check_in("student_sun_002").status == 403


def test_a_teacher_checks_in_nobody_elses_child(people: People) -> None:
    assert people("laoshi").check_in("student_sun_100").status == 403
    batch = people("laoshi").post(
        EVENTS + "/batch",
        {"items": [{"studentId": s, "type": "check_in"} for s in ("student_sun_100", "student_star_001")]},
    )
    assert [item["code"] for item in batch.data["items"]] == [403, 404]


def test_the_operator_sees_no_children(people: People) -> None:
    admin = people("admin")
    assert admin.get("/api/tenant/tenants").status == 200
    for path in ("/api/tenant/students", "/api/tenant/attendance/board", "/api/tenant/classes"):
        assert admin.get(path).status == 403


@pytest.mark.parametrize(
    ("username", "channel"),
    [
        ("laoshi", "class:class_sun_04"),
        ("laoshi", "tenant"),
        ("laoshi", "class:class_star_01"),
        ("laoshi", "student:student_star_001"),
        ("jiazhang2", "student:student_sun_001"),
        ("jiazhang2", "class:class_sun_01"),
        ("jiazhang2", "tenant"),
        ("jiazhang2", "user:user_jiazhang"),
        ("yuanzhang", "class:class_star_01"),
        ("admin", "tenant"),
    ],
)
def test_channels_of_others_are_refused(people: People, username: str, channel: str) -> None:
    with people(username).socket() as socket:
        socket.send({"type": "subscribe", "channel": channel})
        assert socket.next("error")["code"] in (403, 404)


@pytest.mark.parametrize("tenant", ["tenant_star", "platform", "tenant_none"])
def test_a_socket_for_another_tenant_is_closed(people: People, tenant: str) -> None:
    teacher = people("laoshi")
    with connect(teacher.base.replace("http", "ws", 1) + "/ws") as socket:
        socket.send(json.dumps({"type": "auth", "token": teacher.token, "tenantId": tenant}))
        assert json.loads(socket.recv(timeout=5))["type"] == "auth_error"
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(timeout=5)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code in (4401, 4403)


@pytest.mark.parametrize(
    "path",
    [
        "/internal/tenant/recipients?audience=tenant",
        "/internal/tenant/channels",
        "/api/tenant/recipients?audience=tenant",
        "/api/tenant/../../internal/tenant/recipients?audience=tenant",
        "/api/tenant/%2e%2e/%2e%2e/internal/tenant/recipients?audience=tenant",
        "/api/tenant/..%2f..%2finternal/tenant/recipients?audience=tenant",
    ],
)
@pytest.mark.parametrize("username", ["yuanzhang", "admin"])
def test_what_services_tell_each_other_is_not_for_the_public(
    people: People, username: str, path: str
) -> None:
    answer = people(username).get(path)
    assert answer.status in (400, 404)
    assert "members" not in json.dumps(answer.body)
