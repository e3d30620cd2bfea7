"""Rebuilding from history mends what is wrong and harms nothing that is newer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import date
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import Engine, delete, update
from sqlalchemy.event import listen, remove
from tests.unit.services.analytics.world import PRINCIPAL, STAR, TEACHER, World, event, play

from yuanlian.contracts.attendance import StudentDay
from yuanlian.kit.clock import ManualClock
from yuanlian.kit.envelope import Page
from yuanlian.kit.errors import ServiceUnavailableError
from yuanlian.kit.http.client import ServiceClient
from yuanlian.kit.identity.principal import Principal
from yuanlian.kit.tenancy.scope import across_tenants, tenant_scope
from yuanlian.services.analytics.models import StudentDayRow
from yuanlian.services.analytics.schemas import Rebuilt
from yuanlian.services.analytics.service import AnalyticsService

NOVEMBER = {"from": "2026-11-01", "to": "2026-11-30"}
EVENTS = [event(f"s{n}", "present", 2, on=f"2026-11-{n % 28 + 1:02}") for n in range(450)]


def test_lost_and_damaged_rows_come_back_and_foreign_ones_go(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        await world.count(*EVENTS, event("s1", tenant_id=STAR))
        await world.remember(EVENTS)
        right = await world.rows()
        with across_tenants("test"):
            await world.database.write(
                lambda s: s.execute(delete(StudentDayRow).where(StudentDayRow.student_id == "s3"))
            )
            await world.database.write(
                lambda s: s.execute(
                    update(StudentDayRow).where(StudentDayRow.student_id == "s4").values(state="left")
                )
            )
        ghost = event("ghost", on="2026-11-05")
        await world.count(ghost)

        reply = await world.ask(PRINCIPAL, "POST", "rebuild", NOVEMBER)
        assert (reply.status, reply.data) == (200, {"read": 450, "changed": 3})
        assert await world.rows() == right
        again = await world.ask(PRINCIPAL, "POST", "rebuild", NOVEMBER)
        assert again.data == {"read": 450, "changed": 0}
        await world.count(*EVENTS, ghost)
        assert await world.rows() == right, "what was put right stays right when messages come again"

    play(tmp_path, scenario)


def test_rows_outside_the_range_are_left_alone(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        await world.count(event("s1", on="2026-10-31"), event("s1", on="2026-12-01"))
        await world.ask(PRINCIPAL, "POST", "rebuild", NOVEMBER)
        assert {row.date for row in await world.rows()} == {date(2026, 10, 31), date(2026, 12, 1)}

    play(tmp_path, scenario)


def test_one_day_at_a_time_is_read_and_replaced_page_by_page(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        crowd = [event(f"s{n:03}", on="2026-11-02") for n in range(450)]
        await world.remember([*crowd, event("s1", on="2026-11-03")])
        reply = await world.ask(PRINCIPAL, "POST", "rebuild", {"from": "2026-11-01", "to": "2026-11-04"})
        assert reply.data == {"read": 451, "changed": 451}
        asked = [(c.query["from"], c.query["to"], "cursor" in c.query) for c in world.tenant.calls]
        assert asked == [
            ("2026-11-01", "2026-11-01", False),
            ("2026-11-02", "2026-11-02", False),
            ("2026-11-02", "2026-11-02", True),
            ("2026-11-02", "2026-11-02", True),
            ("2026-11-03", "2026-11-03", False),
            ("2026-11-04", "2026-11-04", False),
        ]
        assert len(await world.rows()) == 451

    play(tmp_path, scenario)


def test_a_day_that_is_right_is_not_written(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        await world.count(*EVENTS)
        await world.remember(EVENTS)
        written: list[str] = []

        def note(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
            if not statement.startswith(("SELECT", "BEGIN")):
                written.append(statement)

        listen(Engine, "before_cursor_execute", note)
        try:
            reply = await world.ask(PRINCIPAL, "POST", "rebuild", NOVEMBER)
        finally:
            remove(Engine, "before_cursor_execute", note)
        assert reply.data == {"read": 450, "changed": 0}
        assert written == []

    play(tmp_path, scenario)


class Told:
    """The tenant service at a moment of the test's choosing: what it had read before others wrote."""

    def __init__(self, *days: StudentDay, then: Callable[[], Awaitable[None]] | None = None) -> None:
        self._days = days
        self._then = then

    async def call(self, *_: Any, query: dict[str, str] | None = None, **__: Any) -> Any:
        assert query is not None
        days = [day for day in self._days if query["from"] <= day.date <= query["to"]]
        if self._then is not None:
            then, self._then = self._then, None
            await then()
        return msgspec.to_builtins(Page(days))


async def rebuild(world: World, client: ServiceClient, first: int, last: int) -> Rebuilt:
    clock = ManualClock(0)
    service = AnalyticsService(database=world.database, client=client, clock=clock)
    with tenant_scope(PRINCIPAL.tenant_id):
        return await service.rebuild(PRINCIPAL, date(2026, 11, first), date(2026, 11, last))


def test_an_event_that_arrives_while_history_is_read_is_kept(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        await world.count(event("s1", "present", 1))

        async def meanwhile() -> None:
            await world.count(event("s1", "left", 2), event("s2", "present", 1))

        history = Told(StudentDay("s1", "class_1", "小一班", "2026-11-24", "present", 1), then=meanwhile)
        await rebuild(world, history, 24, 24)
        assert {(row.student, row.state, row.version) for row in await world.rows()} == {
            ("s1", "left", 2),
            ("s2", "present", 1),
        }

    play(tmp_path, scenario)


def test_who_came_and_who_came_late_is_taken_from_history(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        await world.count(event("s1", "left", 2), event("s2", "left", 2))
        late = StudentDay("s1", "class_1", "小一班", "2026-11-24", "left", 2, attended=True, arrivedLate=True)
        absent = StudentDay("s3", "class_1", "小一班", "2026-11-24", "absent", 1)
        assert await rebuild(world, Told(late, absent), 24, 24) == Rebuilt(2, 3)
        assert {(r.student, r.attended, r.arrived_late) for r in await world.rows()} == {
            ("s1", True, True),
            ("s3", False, False),
        }

    play(tmp_path, scenario)


def test_a_day_that_cannot_be_read_to_its_end_stays_as_it_was(tmp_path: Path) -> None:
    class BreaksOff(Told):
        async def call(self, *_: Any, query: dict[str, str] | None = None, **__: Any) -> Any:
            assert query is not None
            if "cursor" in query:
                raise ServiceUnavailableError
            page = await super().call(query=query)
            return page | {"nextCursor": "more"} if query["from"] == "2026-11-24" else page

    async def scenario(world: World) -> None:
        await world.count(event("s1"), event("s1", on="2026-11-23"), event("s1", on="2026-11-25"))
        history = BreaksOff(
            StudentDay("s9", "class_1", "小一班", "2026-11-23", "present", 1),
            StudentDay("s9", "class_1", "小一班", "2026-11-24", "present", 1),
        )
        with pytest.raises(ServiceUnavailableError):
            await rebuild(world, history, 23, 25)
        # The day before was finished: a repeat goes on from there.
        assert {(row.student, row.date.day) for row in await world.rows()} == {
            ("s9", 23),
            ("s1", 24),
            ("s1", 25),
        }

    play(tmp_path, scenario)


def test_who_sees_only_part_of_the_history_may_not_replace_it(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        assert (await world.ask(TEACHER, "POST", "rebuild", NOVEMBER)).status == 403
        reader = Principal("user_r", PRINCIPAL.tenant_id, permissions=frozenset(("analytics.read",)))
        assert (await world.ask(reader, "POST", "rebuild", NOVEMBER)).status == 403
        assert world.tenant.calls == []

    play(tmp_path, scenario)


@pytest.mark.parametrize(
    ("data", "field"),
    [
        ({"from": "2026-11-30", "to": "2026-11-01"}, "to"),
        ({"from": "2026-11-01"}, "to"),
        ({"from": "yesterday", "to": "2026-11-01"}, "from"),
        (NOVEMBER | {"force": True}, "force"),
    ],
)
def test_a_wrong_range_is_refused(tmp_path: Path, data: dict[str, Any], field: str) -> None:
    async def scenario(world: World) -> None:
        reply = await world.ask(PRINCIPAL, "POST", "rebuild", data)
        assert reply.status == 400
        assert list(reply.problems) == [field]

    play(tmp_path, scenario)
