"""Enrolment: who sees which child, what a child may be, and what ends with a change."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy.orm import Session
from tests.unit.services.tenant.roster_world import World, head, mother, run, teacher

from yuanlian.services.tenant.attendance.models import AttendanceDay
from yuanlian.services.tenant.roster.models import Guardian, Guardianship, Student
from yuanlian.services.tenant.wire import Id

CHILD = {"name": "小明", "gender": "male", "birthDate": "2022-05-01", "classId": "class_a1"}


def test_a_principal_sees_the_own_kindergarten_and_no_other(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        seen = await world.as_(head("a"))("GET", "/students")
        assert seen.status == 200
        assert seen.data["total"] == 6
        assert all(id_.startswith("student_a") for id_ in seen.ids)

    run(tmp_path, scenario)


def test_a_teacher_sees_the_children_of_the_own_class_only(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        ask = world.as_(teacher("a"))
        seen = await ask("GET", "/students")
        assert seen.ids == ["student_a10", "student_a11", "student_a12"]
        assert seen.data["total"] is None
        assert (await ask("GET", "/students?classId=class_a2")).ids == []
        assert (await ask("GET", "/students/student_a10")).status == 200
        assert (await ask("GET", "/students/student_a20")).status == 403

    run(tmp_path, scenario)


def test_a_guardian_sees_the_own_child_only(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        ask = world.as_(mother("a"))
        assert (await ask("GET", "/students")).ids == ["student_a10"]
        assert (await ask("GET", "/students/student_a10")).status == 200
        assert (await ask("GET", "/students/student_a11")).status == 403
        assert (await ask("PATCH", "/students/student_a10", {"name": "x"})).status == 403
        assert (await ask("GET", "/students/student_a10/guardians")).status == 403

    run(tmp_path, scenario)


def test_a_careless_condition_does_not_open_the_whole_list(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        principal = teacher("a")
        principal.conditions["student.read"] = ("true",)
        assert len((await world.as_(principal)("GET", "/students")).ids) == 3

    run(tmp_path, scenario)


@pytest.mark.parametrize(("method", "body"), [("GET", None), ("PATCH", {"name": "x"}), ("DELETE", None)])
def test_a_child_of_another_kindergarten_does_not_exist(
    tmp_path: Path, method: str, body: dict[str, Any] | None
) -> None:
    async def scenario(world: World) -> None:
        answer = await world.as_(head("a"))(method, "/students/student_b10", body)
        assert answer.status == 404
        assert answer.message == "幼儿不存在"
        assert await world.count(Student, tenant_id="b") == 6

    run(tmp_path, scenario)


def test_pages_follow_each_other_without_gap_or_repeat(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        ask = world.as_(head("a"))
        seen: list[str] = []
        cursor = ""
        while True:
            page = await ask("GET", f"/students?limit=4{cursor}")
            seen += page.ids
            if page.data["nextCursor"] is None:
                break
            cursor = f"&cursor={page.data['nextCursor']}"
        assert seen == sorted(set(seen))
        assert len(seen) == 6
        assert set((await ask("GET", "/students?cursor=x")).details) == {"cursor"}
        assert set((await ask("GET", "/students?limit=0")).details) == {"limit"}

    run(tmp_path, scenario)


def test_a_list_is_filtered_by_class_status_and_part_of_the_name(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        ask = world.as_(head("a"))
        await ask("PATCH", "/students/student_a21", {"status": "graduated"})
        assert (await ask("GET", "/students?status=graduated")).ids == ["student_a21"]
        assert (await ask("GET", "/students?classId=class_a2&status=active")).data["total"] == 2
        assert (await ask("GET", "/students?q=儿1")).ids == ["student_a11", "student_a21"]
        assert (await ask("GET", "/students?q=%25")).ids == []
        made = (await ask("POST", "/students", {"name": "Anna 安娜", "classId": "class_a1"})).data["id"]
        assert (await ask("GET", "/students?q=aNNa")).ids == [made]

    run(tmp_path, scenario)


def test_a_child_is_enrolled_with_a_trimmed_name(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        made = await world.as_(head("a"))("POST", "/students", {**CHILD, "name": "  小明 "})
        assert made.status == 201
        assert made.data["name"] == "小明"
        assert made.data["birthDate"] == "2022-05-01"
        assert await world.count(Student, tenant_id="a") == 7
        assert await world.count(Student, tenant_id="b") == 6

    run(tmp_path, scenario)


@pytest.mark.parametrize(
    ("field", "value", "chinese", "english"),
    [
        ("name", "  ", "缺少必填字段", "is required"),
        ("name", "长" * 51, "长度应不超过 50", "must have a length of at most 50"),
        ("name", "小\x07明", "不能含有控制字符", "must not contain control characters"),
        ("gender", "other", None, None),
        ("birthDate", "2026-11-25", "不能是将来的日期", "must not be in the future"),
        ("birthDate", "1999-12-31", "不能早于 2000-01-01", "must not be before 2000-01-01"),
        ("birthDate", "20220501", None, "must be a date such as 2021-09-30"),
        ("birthDate", "2022-02-30", None, "must be a date such as 2021-09-30"),
        ("classId", "class_b1", "没有这个班级", "is not a class of this kindergarten"),
        ("classId", "class_none", "没有这个班级", "is not a class of this kindergarten"),
        ("status", "gone", None, None),
        ("tenantId", "b", "未知字段", "is not a known field"),
    ],
)
def test_what_is_wrong_with_a_child_is_told_per_field_in_both_languages(
    tmp_path: Path, field: str, value: str, chinese: str | None, english: str | None
) -> None:
    async def scenario(world: World) -> None:
        ask = world.as_(head("a"))
        for method, path in (("POST", "/students"), ("PATCH", "/students/student_a10")):
            for language, text in (("zh", chinese), ("en", english)):
                answer = await ask(
                    method, path, {**CHILD, field: value}, headers={"accept-language": language}
                )
                assert answer.status == 400
                assert set(answer.details) == {field}
                assert text is None or answer.details[field] == text
        assert await world.count(Student, name="小明") == 0

    run(tmp_path, scenario)


def test_everything_wrong_is_told_at_once(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        wrong = {"name": " ", "classId": "class_x", "birthDate": "2099-01-01"}
        answer = await world.as_(head("a"))("POST", "/students", wrong)
        assert set(answer.details) == {"name", "classId", "birthDate"}

    run(tmp_path, scenario)


def test_a_teacher_enrols_and_moves_children_within_the_own_class_only(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        ask = world.as_(teacher("a"))
        assert (await ask("POST", "/students", CHILD)).status == 201
        assert (await ask("POST", "/students", {**CHILD, "classId": "class_a2"})).status == 403
        assert (await ask("PATCH", "/students/student_a20", {"name": "x"})).status == 403
        assert (await ask("PATCH", "/students/student_a20", {"classId": "class_a1"})).status == 403
        assert (await ask("PATCH", "/students/student_a10", {"classId": "class_a2"})).status == 403
        assert await world.count(Student, tenant_id="a", class_id="class_a2") == 3

    run(tmp_path, scenario)


def test_a_change_leaves_absent_fields_alone_and_null_takes_away(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        answer = await world.as_(head("a"))("PATCH", "/students/student_a10", {"birthDate": None})
        assert answer.data["birthDate"] is None
        assert answer.data["gender"] == "female"
        assert answer.data["name"] == "幼儿0"

    run(tmp_path, scenario)


def test_moving_a_child_ends_the_connections_of_who_looked_after_it(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        here, elsewhere = world.connect(teacher("a")), world.connect(teacher("b"))
        ask = world.as_(head("a"))
        await ask("PATCH", "/students/student_a10", {"name": "新名"})
        assert here.closed == []
        await ask("PATCH", "/students/student_a10", {"classId": "class_a2"})
        assert (here.closed, elsewhere.closed) == ([4403], [])

    run(tmp_path, scenario)


def test_a_child_comes_back_only_into_a_class_that_exists(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        ask = world.as_(head("a"))
        for child in ("0", "1", "2"):
            await ask("PATCH", f"/students/student_a2{child}", {"status": "withdrawn"})
        assert (await ask("DELETE", "/classes/class_a2")).status == 200
        back = await ask("PATCH", "/students/student_a20", {"status": "active"})
        assert set(back.details) == {"classId"}
        again = {"status": "active", "classId": "class_a1"}
        assert (await ask("PATCH", "/students/student_a20", again)).status == 200

    run(tmp_path, scenario)


def test_a_deleted_child_takes_its_guardianships_along(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        socket = world.connect(mother("a"))
        assert (await world.as_(head("a"))("DELETE", "/students/student_a10")).status == 200
        assert await world.count(Guardianship, tenant_id="a") == 0
        assert await world.count(Guardian, tenant_id="a") == 0
        assert await world.count(Guardian, tenant_id="b") == 2
        assert socket.closed == [4403]

    run(tmp_path, scenario)


def test_a_child_with_attendance_is_kept(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        def attended(session: Session) -> None:
            session.add(
                AttendanceDay(
                    tenant_id="a",
                    date=date(2026, 11, 23),
                    student_id="student_a10",
                    class_id="class_a1",
                    state="present",
                    state_at=0,
                    version=1,
                )
            )

        await world.write("a", attended)
        answer = await world.as_(head("a"))("DELETE", "/students/student_a10")
        assert answer.status == 409
        assert "考勤记录" in answer.message
        assert await world.count(Student, tenant_id="a") == 6

    run(tmp_path, scenario)


def test_without_identity_or_permission_nothing_is_answered(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        assert (await world.as_(None)("GET", "/students")).status == 401
        assert (await world.as_(mother("a"))("POST", "/students", CHILD)).status == 403

    run(tmp_path, scenario)


def test_an_id_is_one_line_of_ascii() -> None:
    assert msgspec.convert("class_a1", Id) == "class_a1"
    for id_ in ("class_a1\n", "class_\u0661", "", "x" * 65):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(id_, Id)
