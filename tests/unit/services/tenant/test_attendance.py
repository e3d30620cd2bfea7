"""Recording attendance: what is stored, who may, what a repeat means, what the board shows."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import func, insert, select
from sqlalchemy.orm import Session
from tests.support.databases import open_database

from yuanlian.contracts.attendance import AttendanceUpdated
from yuanlian.kit.caching.cache import Cache
from yuanlian.kit.clock import ManualClock
from yuanlian.kit.database.schema import Base
from yuanlian.kit.errors import (
    AppError,
    AuthorizationError,
    ConflictError,
    NotFoundError,
    ValidationError,
)
from yuanlian.kit.identity.decision import Authorizer
from yuanlian.kit.identity.principal import Principal
from yuanlian.kit.messaging.message import Message
from yuanlian.kit.messaging.tables import OutboxRow
from yuanlian.kit.realtime.memory import MemoryHub
from yuanlian.kit.tenancy.scope import across_tenants, tenant_group, tenant_scope
from yuanlian.services.tenant.access import Access
from yuanlian.services.tenant.attendance.models import AttendanceDay, AttendanceEvent
from yuanlian.services.tenant.attendance.schemas import AttendanceEventIn, AttendanceEventOut
from yuanlian.services.tenant.attendance.service import AttendanceService
from yuanlian.services.tenant.roster.models import (
    Classroom,
    Guardian,
    Guardianship,
    Staff,
    StaffClass,
    Student,
)
from yuanlian.services.tenant.tenants.models import TenantRow
from yuanlian.services.tenant.tenants.zones import TimeZones

MINUTE = 60_000
NOW = int(datetime(2026, 11, 24, 0, 10, tzinfo=UTC).timestamp() * 1000)  # 08:10 in Shanghai
TENANTS = ("tenant_a", "tenant_b")

Scenario = Callable[["World"], Coroutine[Any, Any, None]]


class World:
    """Two kindergartens, each with two classes of three children; child 0 has two guardians, of whom
    one wants no notices."""

    def __init__(self, folder: Path) -> None:
        self.clock = ManualClock(NOW)
        self.database = open_database(folder / "test.db")
        self.database.migrate(Base.metadata.create_all)
        self.service = AttendanceService(
            self.database,
            Access(Authorizer(self.clock)),
            MemoryHub(),
            self.clock,
            TimeZones(self.database, Cache()),
        )

    async def fill(self) -> None:
        with tenant_group(TENANTS):
            await self.database.write(_fill)

    async def record(self, principal: Principal, **event: Any) -> AttendanceEventOut:
        return await self.service.record(principal, msgspec.convert(event, AttendanceEventIn))

    async def count(self, model: type[Base]) -> int:
        with across_tenants("test"):
            return await self.database.read(
                lambda s: s.execute(select(func.count()).select_from(model)).scalar_one()
            )

    async def announced(self) -> list[tuple[Message, AttendanceUpdated]]:
        def read(session: Session) -> list[str]:
            return list(session.scalars(select(OutboxRow.body).order_by(OutboxRow.sequence)))

        messages = [msgspec.json.decode(body, type=Message) for body in await self.database.read(read)]
        return [(m, msgspec.convert(m.data, AttendanceUpdated)) for m in messages]


def _fill(session: Session) -> None:
    for tenant in TENANTS:
        own = {"tenant_id": tenant}
        session.execute(
            insert(TenantRow),
            {
                "id": tenant,
                "name": tenant,
                "status": "active",
                "isolation": "shared",
                "time_zone": "Asia/Shanghai",
                "late_after": "09:00",
                "created_at": 0,
            },
        )
        for number in (1, 2):
            class_id = f"class_{tenant}_{number}"
            session.add(Classroom(**own, id=class_id, name=f"{number}班", created_at=0))
            for child in range(3):
                session.add(
                    Student(
                        **own,
                        id=f"student_{tenant}_{number}{child}",
                        name=f"幼儿{child}",
                        class_id=class_id,
                        status="active",
                        created_at=0,
                        updated_at=0,
                    )
                )
        first = f"student_{tenant}_10"
        for name, notices in (("mother", True), ("uncle", False)):
            guardian = f"guardian_{tenant}_{name}"
            session.add(Guardian(**own, id=guardian, user_id=f"user_{name}", name=name, created_at=0))
            session.add(
                Guardianship(
                    **own,
                    student_id=first,
                    guardian_id=guardian,
                    relation=name,
                    receives_notices=notices,
                    created_at=0,
                )
            )
        session.add(Staff(**own, id=f"staff_{tenant}", user_id="user_teacher", name="老师", created_at=0))
        session.add(
            StaffClass(
                **own,
                staff_id=f"staff_{tenant}",
                class_id=f"class_{tenant}_1",
                user_id="user_teacher",
            )
        )


def principal(tenant: str = "tenant_a") -> Principal:
    return Principal("user_principal", tenant, permissions=frozenset({"attendance.read", "attendance.write"}))


def teacher(tenant: str = "tenant_a") -> Principal:
    own = ("resource.classId in user.classIds",)
    return Principal(
        "user_teacher",
        tenant,
        permissions=frozenset({"attendance.read", "attendance.write"}),
        conditions={"attendance.read": own, "attendance.write": own},
    )


def mother(tenant: str = "tenant_a") -> Principal:
    return Principal(
        "user_mother",
        tenant,
        permissions=frozenset({"attendance.read"}),
        conditions={"attendance.read": ("resource.id in user.studentIds",)},
    )


@pytest.fixture
def play(tmp_path: Path) -> Callable[[Scenario], None]:
    def run(scenario: Scenario) -> None:
        async def scene() -> None:
            world = World(tmp_path)
            try:
                await world.fill()
                await scenario(world)
            finally:
                await world.database.close()

        asyncio.run(scene())

    return run


def test_a_check_in_is_stored_with_its_day_and_its_message(play: Callable[[Scenario], None]) -> None:
    async def scenario(world: World) -> None:
        out = await world.record(
            teacher(), studentId="student_tenant_a_10", type="check_in", temperature=36.5, eventId="e1"
        )
        assert (out.dayState, out.date, out.duplicate) == ("present", "2026-11-24", False)
        assert await world.count(AttendanceEvent) == 1
        assert await world.count(AttendanceDay) == 1
        [(message, update)] = await world.announced()
        assert message.tenantId == "tenant_a"
        assert [r.userId for r in update.recipients] == ["user_mother"]

    play(scenario)


def test_the_same_event_fifty_times_at_once_is_one_row_and_one_message(
    play: Callable[[Scenario], None],
) -> None:
    async def scenario(world: World) -> None:
        same = {"studentId": "student_tenant_a_10", "type": "check_in", "eventId": "tap-1"}
        results = await asyncio.gather(*(world.record(teacher(), **same) for _ in range(50)))
        assert sum(r.duplicate for r in results) == 49
        assert len({r.id for r in results}) == 1
        assert await world.count(AttendanceEvent) == 1
        assert len(await world.announced()) == 1

    play(scenario)


def test_a_repeat_returns_the_first_result_as_it_was_stored(play: Callable[[Scenario], None]) -> None:
    async def scenario(world: World) -> None:
        event = {
            "studentId": "student_tenant_a_10",
            "type": "check_in",
            "eventId": "whole",
            "occurredAt": NOW - MINUTE,
            "method": "card",
            "temperature": 36.6,
            "by": {"name": "外婆", "relation": "外婆"},
            "note": "带了药",
        }
        first = await world.record(teacher(), **event)
        world.clock.advance(5 * MINUTE)
        again = await world.record(teacher(), **event)
        assert again == msgspec.structs.replace(first, duplicate=True)

    play(scenario)


def test_an_event_id_does_not_open_another_childs_record(play: Callable[[Scenario], None]) -> None:
    async def scenario(world: World) -> None:
        await world.record(principal(), studentId="student_tenant_a_20", type="check_in", eventId="e")
        with pytest.raises(ConflictError):
            await world.record(teacher(), studentId="student_tenant_a_10", type="check_in", eventId="e")
        elsewhere = await world.record(
            principal("tenant_b"), studentId="student_tenant_b_20", type="check_in", eventId="e"
        )
        assert not elsewhere.duplicate

    play(scenario)


def test_one_bad_item_in_a_group_fails_alone(play: Callable[[Scenario], None]) -> None:
    async def scenario(world: World) -> None:
        results = await asyncio.gather(
            world.record(teacher(), studentId="student_tenant_a_10", type="check_in"),
            world.record(teacher(), studentId="student_tenant_a_99", type="check_in"),
            world.record(teacher(), studentId="student_tenant_a_20", type="check_in"),
            world.record(teacher("tenant_b"), studentId="student_tenant_a_11", type="check_in"),
            world.record(teacher("tenant_b"), studentId="student_tenant_b_11", type="check_in"),
            world.record(
                teacher(), studentId="student_tenant_a_11", type="check_in", occurredAt=NOW + 10 * MINUTE
            ),
            return_exceptions=True,
        )
        kinds = [type(r) for r in results]
        assert kinds == [
            AttendanceEventOut,
            NotFoundError,
            AuthorizationError,
            NotFoundError,
            AttendanceEventOut,
            ValidationError,
        ]
        assert await world.count(AttendanceEvent) == 2
        assert len(await world.announced()) == 2

    play(scenario)


def test_an_item_that_the_database_refuses_fails_alone(play: Callable[[Scenario], None]) -> None:
    """A child without a calendar day in range of the column would break a multi-row INSERT."""

    async def scenario(world: World) -> None:
        good = AttendanceEventIn("student_tenant_a_10", "check_in")
        # Reaches the database as a value that no driver can send, as a defect of ours would.
        bad = AttendanceEventIn("student_tenant_a_11", "check_in", note="\ud800")
        results = await asyncio.gather(
            world.service.record(teacher(), good),
            world.service.record(teacher(), bad),
            return_exceptions=True,
        )
        assert isinstance(results[0], AttendanceEventOut)
        assert isinstance(results[1], Exception)
        assert not isinstance(results[1], AppError)
        assert await world.count(AttendanceEvent) == 1

    play(scenario)


def test_a_late_event_counts_and_announces_nothing_as_new(play: Callable[[Scenario], None]) -> None:
    async def scenario(world: World) -> None:
        await world.record(
            teacher(), studentId="student_tenant_a_10", type="check_in", occurredAt=NOW - 31 * MINUTE
        )
        [(_, update)] = await world.announced()
        assert update.late
        assert update.recipients == ()
        with tenant_scope("tenant_a"):
            board = await world.service.board(principal(), None, None)
        assert board.counts.present == 1

    play(scenario)


def test_an_older_event_never_overwrites_a_newer_state(play: Callable[[Scenario], None]) -> None:
    async def scenario(world: World) -> None:
        student = "student_tenant_a_10"
        await world.record(teacher(), studentId=student, type="check_out", occurredAt=NOW)
        out = await world.record(teacher(), studentId=student, type="check_in", occurredAt=NOW - MINUTE)
        assert out.dayState == "left"

    play(scenario)


def test_a_child_without_a_record_is_unchecked_not_absent(play: Callable[[Scenario], None]) -> None:
    async def scenario(world: World) -> None:
        await world.record(teacher(), studentId="student_tenant_a_10", type="absent")
        with tenant_scope("tenant_a"):
            board = await world.service.board(teacher(), "class_tenant_a_1", None)
        counts = board.counts
        assert (counts.expected, counts.absent, counts.unchecked) == (3, 1, 2)

    play(scenario)


def test_an_arrival_after_the_tenants_hour_is_late(play: Callable[[Scenario], None]) -> None:
    async def scenario(world: World) -> None:
        world.clock.advance(60 * MINUTE)  # 09:10
        out = await world.record(teacher(), studentId="student_tenant_a_10", type="check_in")
        assert out.dayState == "late"
        world.clock.advance(-90 * MINUTE)

    play(scenario)


def test_a_guardian_sees_their_child_on_the_board_and_in_history_and_nobody_else(
    play: Callable[[Scenario], None],
) -> None:
    async def scenario(world: World) -> None:
        await world.record(principal(), studentId="student_tenant_a_10", type="check_in")
        await world.record(principal(), studentId="student_tenant_a_11", type="check_in")
        with tenant_scope("tenant_a"):
            board = await world.service.board(mother(), None, None)
            history = await world.service.history(mother(), None, None, None, 50, None)
            with pytest.raises(AuthorizationError):
                await world.service.history(mother(), "student_tenant_a_11", None, None, 50, None)
            with pytest.raises(AuthorizationError):
                await world.service.board(mother(), "class_tenant_a_2", None)
        assert [s.studentId for s in board.students] == ["student_tenant_a_10"]
        assert board.counts.expected == 1
        assert [e.studentId for e in history.items] == ["student_tenant_a_10"]

    play(scenario)


def test_a_teacher_gets_no_board_of_another_class_nor_of_another_kindergarten(
    play: Callable[[Scenario], None],
) -> None:
    async def scenario(world: World) -> None:
        with tenant_scope("tenant_a"):
            with pytest.raises(AuthorizationError):
                await world.service.board(teacher(), "class_tenant_a_2", None)
            with pytest.raises(NotFoundError):
                await world.service.board(teacher(), "class_tenant_b_1", None)
            with pytest.raises(ValidationError):
                await world.service.board(teacher(), None, date(2026, 11, 25))
            everything = await world.service.board(teacher(), None, None)
        assert {s.classId for s in everything.students} == {"class_tenant_a_1"}

    play(scenario)


def test_a_batch_reports_each_item(play: Callable[[Scenario], None]) -> None:
    async def scenario(world: World) -> None:
        items = [
            {"studentId": "student_tenant_a_10", "type": "check_in", "eventId": "b1"},
            {"studentId": "student_tenant_a_10", "type": "check_in", "eventId": "b1"},
            {"studentId": "student_tenant_a_11", "type": "dance", "temperature": 60},
            {"studentId": "student_tenant_a_20", "type": "check_in"},
        ]
        out = await world.service.record_batch(teacher(), items)
        assert [i.code for i in out.items] == [201, 200, 400, 403]
        assert (out.recorded, out.duplicates, out.failed) == (1, 1, 2)
        error = out.items[2].error
        assert error is not None
        assert {d.field for d in error.details} == {"type", "temperature"}

    play(scenario)


def test_a_repeat_gets_its_first_result_even_after_the_child_has_left(
    play: Callable[[Scenario], None],
) -> None:
    async def scenario(world: World) -> None:
        event = {"studentId": "student_tenant_a_10", "type": "check_in", "eventId": "once"}
        first = await world.record(teacher(), **event)
        with tenant_scope("tenant_a"):
            await world.database.write(
                lambda s: setattr(s.get(Student, ("tenant_a", "student_tenant_a_10")), "status", "withdrawn")
            )
        again = await world.record(teacher(), **event)
        assert (again.id, again.duplicate) == (first.id, True)
        with pytest.raises(ConflictError):
            await world.record(teacher(), **{**event, "eventId": "another"})

    play(scenario)


def test_the_board_of_a_past_day_shows_who_was_there(play: Callable[[Scenario], None]) -> None:
    """A child who has moved to another class, or left, stays on the boards of the days before."""

    async def scenario(world: World) -> None:
        student = "student_tenant_a_10"
        await world.record(teacher(), studentId=student, type="check_in")

        def move(session: Session) -> None:
            moved = session.get(Student, ("tenant_a", student))
            assert moved is not None
            moved.class_id = "class_tenant_a_2"

        with tenant_scope("tenant_a"):
            await world.database.write(move)
            world.clock.advance(24 * 60 * MINUTE)
            yesterday = date(2026, 11, 24)
            before = await world.service.board(principal(), "class_tenant_a_1", yesterday)
            today = await world.service.board(principal(), "class_tenant_a_1", None)
            long_ago = await world.service.board(principal(), None, date(2020, 1, 1))
        assert (before.counts.expected, before.counts.present) == (3, 1)
        assert today.counts.expected == 2
        assert long_ago.counts.unchecked == 6  # enrolled at the epoch in this world

    play(scenario)


def test_history_pages_through_everything_once(play: Callable[[Scenario], None]) -> None:
    async def scenario(world: World) -> None:
        for index in range(7):
            await world.record(
                teacher(), studentId="student_tenant_a_10", type="check_in", eventId=f"p{index}"
            )
        seen: list[str] = []
        cursor = None
        with tenant_scope("tenant_a"):
            while True:
                page = await world.service.history(principal(), None, None, None, 3, cursor)
                seen += [e.eventId for e in page.items]
                cursor = page.nextCursor
                if cursor is None:
                    break
        assert sorted(seen) == [f"p{i}" for i in range(7)]

    play(scenario)
