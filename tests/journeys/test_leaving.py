"""When a membership ends, so do its ties to classes and children."""

from __future__ import annotations

from tests.support.platform import People, eventually


def test_a_removed_teacher_is_off_the_staff_and_comes_back_as_a_newcomer(people: People) -> None:
    principal = people("yuanzhang")
    teacher = "user_laoshi_sun_12"

    def on_staff() -> bool:
        listed = principal.get("/api/tenant/staff?limit=200").data["items"]
        return teacher in {member["userId"] for member in listed}

    assert on_staff()
    assert principal.call("DELETE", f"/api/auth/users/{teacher}").status in (200, 204)
    eventually(lambda: not on_staff())


def test_a_removed_guardian_is_told_nothing_more(people: People) -> None:
    principal = people("yuanzhang")
    child = "student_sun_010"
    guardians = principal.get(f"/api/tenant/students/{child}/guardians").data["items"]
    user = next(g["userId"] for g in guardians if g["userId"])
    assert principal.call("DELETE", f"/api/auth/users/{user}").status in (200, 204)

    def linked() -> set[str | None]:
        now = principal.get(f"/api/tenant/students/{child}/guardians").data["items"]
        return {g["userId"] for g in now}

    eventually(lambda: user not in linked())
