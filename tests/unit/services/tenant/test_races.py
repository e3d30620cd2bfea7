"""Two processes that do the same at the same time: one does it, the other hears so; nobody gets a 500."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import select
from tests.unit.services.tenant import test_attendance as attendance
from tests.unit.services.tenant.roster_world import Answer, Client, World, head, run

from yuanlian.kit.tenancy.scope import across_tenants
from yuanlian.services.tenant.attendance.models import AttendanceDay, AttendanceEvent
from yuanlian.services.tenant.attendance.schemas import AttendanceEventIn
from yuanlian.services.tenant.roster.models import Classroom, Guardian, Staff, Student

CHILD = "/students/student_a10/guardians"
Scenario = Callable[[Client, Client, World], Awaitable[None]]


def race(folder: Path, scenario: Scenario) -> None:
    """``scenario`` gets the principal twice: each is served by a process of its own."""

    async def with_another(world: World) -> None:
        other = World(folder)
        other.auth.users = world.auth.users
        try:
            await scenario(world.as_(head("a")), other.as_(head("a")), world)
        finally:
            await other.close()

    run(folder, with_another)


async def both(*asked: Coroutine[Any, Any, Answer]) -> Counter[int]:
    return Counter(answer.status for answer in await asyncio.gather(*asked))


ROUNDS = range(8)


def test_one_class_of_a_name(tmp_path: Path) -> None:
    async def scenario(one: Client, other: Client, world: World) -> None:
        for n in ROUNDS:
            body = {"name": f"新{n}班"}
            heard = await both(*(ask("POST", "/classes", body) for ask in (one, other, one, other)))
            assert heard == {201: 1, 409: 3}
            assert await world.count(Classroom, tenant_id="a", name=body["name"]) == 1

    race(tmp_path, scenario)


def test_one_guardian_of_a_phone_number(tmp_path: Path) -> None:
    async def scenario(one: Client, other: Client, world: World) -> None:
        for n in ROUNDS:
            phone = f"1390000010{n}"
            bodies = [{"name": who, "phone": phone, "relation": "爸爸"} for who in ("甲", "乙")]
            children = [f"/students/student_a1{child}/guardians" for child in (1, 2)]
            heard = await both(
                *(
                    ask("POST", path, body)
                    for ask, path, body in zip((one, other), children, bodies, strict=True)
                )
            )
            assert heard == {201: 1, 409: 1}
            assert await world.count(Guardian, tenant_id="a", phone=phone) == 1

    race(tmp_path, scenario)


def test_one_member_of_staff_per_user(tmp_path: Path) -> None:
    async def scenario(one: Client, other: Client, world: World) -> None:
        for n in ROUNDS:
            user = f"user_new{n}"
            world.auth.register("a", user, "新老师")
            heard = await both(*(ask("POST", "/staff", {"userId": user}) for ask in (one, other)))
            assert heard == {201: 1, 409: 1}
            assert await world.count(Staff, tenant_id="a", user_id=user) == 1

    race(tmp_path, scenario)


def test_nobody_enters_a_class_that_is_being_closed(tmp_path: Path) -> None:
    async def scenario(one: Client, other: Client, world: World) -> None:
        for n in ROUNDS:
            made = await one("POST", "/classes", {"name": f"临{n}班"})
            class_id = made.data["id"]
            child = {"name": "小新", "classId": class_id}
            enrolled, closed = await asyncio.gather(
                one("POST", "/students", child), other("DELETE", f"/classes/{class_id}")
            )
            assert (enrolled.status, closed.status) in [(201, 409), (400, 200)]
            children = await world.count(Student, tenant_id="a", class_id=class_id)
            assert children == await world.count(Classroom, tenant_id="a", id=class_id)

    race(tmp_path, scenario)


@pytest.fixture
def record(tmp_path: Path) -> Callable[[Callable[[list[attendance.World]], Awaitable[None]]], None]:
    """Three processes of the attendance service."""

    def play(scenario: Callable[[list[attendance.World]], Awaitable[None]]) -> None:
        async def whole() -> None:
            worlds = [attendance.World(tmp_path) for _ in range(3)]
            try:
                await worlds[0].fill()
                await scenario(worlds)
            finally:
                for world in worlds:
                    await world.database.close()

        asyncio.run(whole())

    return play


def test_a_repeat_at_another_process_is_the_first_ones_event(
    record: Callable[[Callable[[list[attendance.World]], Awaitable[None]]], None],
) -> None:
    async def scenario(worlds: list[attendance.World]) -> None:
        for n in ROUNDS:
            event = {"eventId": f"gate-{n}", "studentId": "student_tenant_a_10", "type": "check_in"}
            sent = [
                world.service.record(attendance.teacher(), msgspec.convert(event, AttendanceEventIn))
                for world in worlds
            ]
            heard = await asyncio.gather(*sent)
            assert len({out.id for out in heard}) == 1
            assert Counter(bool(out.duplicate) for out in heard) == {False: 1, True: 2}
        assert await worlds[0].count(AttendanceEvent) == len(ROUNDS)

    record(scenario)


def test_a_childs_day_counts_the_events_of_all_processes(
    record: Callable[[Callable[[list[attendance.World]], Awaitable[None]]], None],
) -> None:
    async def in_turn(world: attendance.World) -> None:
        for n in range(20):
            event = {"studentId": "student_tenant_a_10", "type": ("check_in", "check_out")[n % 2]}
            await world.service.record(attendance.teacher(), msgspec.convert(event, AttendanceEventIn))

    async def scenario(worlds: list[attendance.World]) -> None:
        await asyncio.gather(*(in_turn(world) for world in worlds))
        with across_tenants("test"):
            day = await worlds[0].database.read(lambda s: s.scalars(select(AttendanceDay)).one())
        assert day.version == 60
        assert await worlds[0].count(AttendanceEvent) == 60

    record(scenario)
