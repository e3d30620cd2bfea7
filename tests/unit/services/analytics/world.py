"""An analytics service beside the real tenant service, on one database."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import select
from tests.support.databases import open_database
from tests.support.tenant_side import STAR, SUN, TEACHERS_CLASSES, Reply, TenantSide, ask

from yuanlian.contracts.attendance import ATTENDANCE_UPDATE, AttendanceUpdated, DayState, StudentDay
from yuanlian.kit.clock import ManualClock
from yuanlian.kit.database.schema import Base
from yuanlian.kit.identity.internal import InternalIdentity
from yuanlian.kit.identity.principal import Principal
from yuanlian.kit.messaging.message import Message
from yuanlian.kit.tenancy.scope import across_tenants
from yuanlian.services.analytics.models import StudentDayRow
from yuanlian.services.analytics.module import module

__all__ = ["PRINCIPAL", "STAR", "SUN", "TEACHER", "TODAY", "Row", "World", "event", "play"]

TODAY = "2026-11-24"
PRINCIPAL = Principal(
    "user_p", SUN, permissions=frozenset(("analytics.read", "analytics.write", "attendance.read"))
)
TEACHER = Principal(
    "user_t",
    SUN,
    permissions=frozenset(("analytics.read", "analytics.write")),
    conditions={"analytics.read": TEACHERS_CLASSES, "analytics.write": TEACHERS_CLASSES},
)


class Row(NamedTuple):
    tenant: str
    date: date
    student: str
    class_id: str
    class_name: str
    state: str
    attended: bool
    arrived_late: bool
    version: int


class World:
    def __init__(self, folder: Path) -> None:
        clock = ManualClock(1_795_478_400_000)
        self.database = open_database(folder / "test.db")
        self.database.migrate(Base.metadata.create_all)
        self.identity = InternalIdentity(b"k" * 32, clock)
        self.tenant = TenantSide(self.database, clock, self.identity)
        self.module = module(database=self.database, clock=clock, identity=self.identity, client=self.tenant)

    async def count(self, *messages: Message) -> None:
        [subscription] = self.module.subscriptions
        assert subscription.queue == "analytics.queue"
        await subscription.handler(messages)

    async def rows(self) -> set[Row]:
        r = StudentDayRow
        query = select(
            r.tenant_id,
            r.date,
            r.student_id,
            r.class_id,
            r.class_name,
            r.state,
            r.attended,
            r.arrived_late,
            r.version,
        )
        with across_tenants("test"):
            return await self.database.read(lambda s: {Row(*row) for row in s.execute(query)})

    async def ask(self, who: Principal, method: str, path: str, data: Any = None, **headers: str) -> Reply:
        return await ask(
            self.module.app, self.identity, who, method, f"/api/analytics/attendance/{path}", data, **headers
        )

    async def remember(self, messages: Iterable[Message]) -> int:
        """The tenant service's history after these events of one kindergarten; its days."""
        history: dict[tuple[str, str], StudentDay] = {}
        for message in messages:
            event = msgspec.convert(message.data, AttendanceUpdated)
            key = event.date, event.studentId
            if key not in history or history[key].version < event.dayVersion:
                history[key] = StudentDay(
                    event.studentId,
                    event.classId,
                    event.className,
                    event.date,
                    event.dayState,
                    event.dayVersion,
                )
        await self.tenant.remember(SUN, history.values())
        return len(history)


def play(folder: Path, scenario: Callable[[World], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        world = World(folder)
        try:
            await world.tenant.furnish()
            await scenario(world)
        finally:
            await world.database.close()

    asyncio.run(run())


def event(
    student: str = "student_1",
    state: DayState = "present",
    version: int = 1,
    *,
    on: str = TODAY,
    class_id: str = "class_1",
    tenant_id: str = SUN,
    late: bool = False,
    attended: bool = False,
    arrived_late: bool = False,
) -> Message:
    data = AttendanceUpdated(
        id=f"event_{student}_{on}_{version}",
        studentId=student,
        studentName="小明",
        classId=class_id,
        className={"class_1": "小一班", "class_2": "小二班"}.get(class_id, class_id),
        type="check_in",
        dayState=state,
        dayVersion=version,
        date=on,
        occurredAt=1,
        receivedAt=2,
        late=late,
        attended=attended,
        arrivedLate=arrived_late,
    )
    id_ = f"msg_{tenant_id}_{data.id}"
    return Message.new(ATTENDANCE_UPDATE, tenant_id, msgspec.to_builtins(data), id_=id_)
