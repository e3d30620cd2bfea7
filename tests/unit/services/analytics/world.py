"""An analytics service on a real database, beside a tenant service that answers from memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import select
from tests.support.tenant_answers import Reply, TenantAnswers, ask

from yuanlian.contracts.attendance import ATTENDANCE_UPDATE, AttendanceUpdated, DayState, StudentDay
from yuanlian.contracts.tenant import CHANNELS_PATH, DAYS_PATH, Channels
from yuanlian.kit.clock import ManualClock
from yuanlian.kit.database.schema import Base
from yuanlian.kit.database.sqlite import SqliteDatabase
from yuanlian.kit.envelope import Page
from yuanlian.kit.identity.internal import InternalIdentity
from yuanlian.kit.identity.principal import Principal
from yuanlian.kit.messaging.message import Message
from yuanlian.kit.tenancy.scope import across_tenants
from yuanlian.services.analytics.models import StudentDayRow
from yuanlian.services.analytics.module import module

SUN, STAR = "tenant_sun", "tenant_star"
TODAY = "2026-11-24"
PRINCIPAL = Principal("user_p", SUN, permissions=frozenset(("analytics.read", "analytics.write")))
TEACHER = Principal(
    "user_t",
    SUN,
    permissions=frozenset(("analytics.read", "analytics.write")),
    conditions={
        "analytics.read": ("resource.classId in user.classIds",),
        "analytics.write": ("resource.classId in user.classIds",),
    },
)


class Row(NamedTuple):
    tenant: str
    date: date
    student: str
    class_id: str
    class_name: str
    state: str
    version: int


class World:
    def __init__(self, folder: Path) -> None:
        clock = ManualClock(1_795_478_400_000)
        self.database = SqliteDatabase(folder / "test.db")
        self.database.migrate(Base.metadata.create_all)
        self.identity = InternalIdentity(b"k" * 32, clock)
        self.tenant = TenantAnswers()
        self.tenant.answers[CHANNELS_PATH] = lambda _who, _query: Channels(("class:class_1", "user"))
        self.tenant.answers[DAYS_PATH] = self._days
        self.history: dict[tuple[str, str], StudentDay] = {}
        self.module = module(database=self.database, clock=clock, identity=self.identity, client=self.tenant)

    async def count(self, *messages: Message) -> None:
        [subscription] = self.module.subscriptions
        assert subscription.queue == "analytics.queue"
        await subscription.handler(messages)

    async def rows(self) -> set[Row]:
        r = StudentDayRow
        query = select(r.tenant_id, r.date, r.student_id, r.class_id, r.class_name, r.state, r.version)
        with across_tenants("test"):
            return await self.database.read(lambda s: {Row(*row) for row in s.execute(query)})

    async def ask(self, who: Principal, method: str, path: str, data: Any = None, **headers: str) -> Reply:
        return await ask(
            self.module.app, self.identity, who, method, f"/api/analytics/attendance/{path}", data, **headers
        )

    def remember(self, messages: Iterable[Message]) -> None:
        """The tenant service's history after these events."""
        for message in messages:
            event = msgspec.convert(message.data, AttendanceUpdated)
            key = event.date, event.studentId
            if key not in self.history or self.history[key].version < event.dayVersion:
                self.history[key] = StudentDay(
                    event.studentId,
                    event.classId,
                    event.className,
                    event.date,
                    event.dayState,
                    event.dayVersion,
                )

    def _days(self, _who: Principal, query: dict[str, str]) -> Page[StudentDay]:
        wanted = [day for (on, _), day in sorted(self.history.items()) if query["from"] <= on <= query["to"]]
        start, limit = int(query.get("cursor", "0")), int(query["limit"])
        end = start + limit
        return Page(wanted[start:end], str(end) if end < len(wanted) else None)


def play(folder: Path, scenario: Callable[[World], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        world = World(folder)
        try:
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
    )
    id_ = f"msg_{tenant_id}_{data.id}"
    return Message.new(ATTENDANCE_UPDATE, tenant_id, msgspec.to_builtins(data), id_=id_)
