"""Figures of a class are seen by whom ``analytics.read`` lets see them, whatever else they may do."""

from __future__ import annotations

import secrets
from typing import Any

import pytest
from tests.support.platform import PASSWORD, People, Person, eventually

OWN_CLASS = "resource.classId in user.classIds"


def _figures(path: str, day: str, class_id: str | None = None) -> str:
    wanted = "" if class_id is None else f"&classId={class_id}"
    return f"/api/analytics/attendance/{path}?from={day}&to={day}{wanted}"


@pytest.fixture(scope="module")
def day(people: People) -> str:
    """Today, with a child of two classes checked in and counted."""
    principal = people("yuanzhang")
    today = str(principal.get("/api/tenant/attendance/board").data["date"])
    for student in ("student_sun_010", "student_sun_100"):
        assert principal.check_in(student).status in (200, 201)
    eventually(lambda: len(principal.get(_figures("daily", today)).data["items"]) >= 2)
    return today


def _newcomer(people: People, *roles: str) -> Person:
    username = f"u{secrets.token_hex(6)}"
    body = {"username": username, "name": "新人", "roles": roles, "password": PASSWORD}
    answer = people("yuanzhang").post("/api/auth/users", body)
    assert answer.status == 201, answer.body
    return people.sign_in(username, PASSWORD)


def _role(people: People, condition: str) -> str:
    permissions: list[dict[str, Any]] = [
        {"resource": "analytics", "action": "read", "condition": condition},
        # Who follows every child live sees no figures by that.
        {"resource": "attendance", "action": "read"},
    ]
    name = f"角色{secrets.token_hex(4)}"
    answer = people("yuanzhang").post("/api/auth/roles", {"name": name, "permissions": permissions})
    assert answer.status == 201, answer.body
    return str(answer.data["id"])


def _classes(person: Person, day: str) -> set[str]:
    daily = person.get(_figures("daily", day))
    assert daily.status == 200, daily.body
    seen = {item["classId"] for item in daily.data["items"]}
    summary = person.get(_figures("summary", day)).data
    assert {rate["classId"] for rate in summary["classes"]} == seen
    assert (summary["totals"]["total"] > 0) == bool(seen)
    return seen


def test_a_teacher_sees_the_own_class_and_no_other(people: People, day: str) -> None:
    teacher = people("laoshi")
    assert _classes(teacher, day) == {"class_sun_01"}
    assert teacher.get(_figures("daily", day, "class_sun_01")).status == 200
    for other in ("class_sun_04", "class_star_01", "class_none"):
        assert teacher.get(_figures("daily", day, other)).status == 403


@pytest.mark.parametrize("username", ["baojian", "jiazhang2", "admin"])
def test_without_the_permission_there_are_none(people: People, day: str, username: str) -> None:
    for path in ("daily", "summary"):
        assert people(username).get(_figures(path, day)).status == 403


def test_a_principal_sees_no_other_kindergarten(people: People, day: str) -> None:
    assert _classes(people("yuanzhang2"), day) & {"class_sun_01", "class_sun_04"} == set()
    assert people("yuanzhang2").get(_figures("daily", day, "class_sun_01")).data["items"] == []


@pytest.mark.parametrize(
    ("condition", "expected"),
    [("false", set()), (OWN_CLASS, set()), ("resource.classId == 'class_sun_01'", {"class_sun_01"})],
)
def test_a_condition_of_ones_own_is_followed(
    people: People, day: str, condition: str, expected: set[str]
) -> None:
    person = _newcomer(people, _role(people, condition))
    assert _classes(person, day) == expected
    for class_id in ("class_sun_01", "class_sun_04"):
        status = person.get(_figures("daily", day, class_id)).status
        assert status == (200 if class_id in expected else 403)


def test_a_teacher_who_is_the_health_officer_too_sees_the_own_class(people: People, day: str) -> None:
    both = _newcomer(people, "teacher", "health_officer")
    body = {"userId": both.user_id, "classIds": ["class_sun_01"]}
    answer = people("yuanzhang").post("/api/tenant/staff", body)
    assert answer.status == 201, answer.body
    assert _classes(both, day) == {"class_sun_01"}
    assert both.get(_figures("daily", day, "class_sun_01")).status == 200
    assert both.get(_figures("daily", day, "class_sun_04")).status == 403


@pytest.mark.parametrize("username", ["laoshi", "baojian", "jiazhang2", "admin"])
def test_only_who_sees_everything_rebuilds(people: People, day: str, username: str) -> None:
    answer = people(username).post("/api/analytics/attendance/rebuild", {"from": day, "to": day})
    assert answer.status == 403


def test_a_rebuild_of_what_is_right_changes_nothing(people: People, day: str) -> None:
    principal = people("yuanzhang")

    def rebuilt() -> Any:
        return principal.post("/api/analytics/attendance/rebuild", {"from": day, "to": day}).data

    eventually(lambda: rebuilt()["changed"] == 0)
    assert rebuilt()["read"] >= 2
