"""Rebuilding from history mends what is wrong and harms nothing that is newer."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, update
from tests.unit.services.analytics.world import PRINCIPAL, STAR, TEACHER, World, event, play

from yuanlian.contracts.attendance import StudentDay
from yuanlian.contracts.tenant import DAYS_PATH
from yuanlian.kit.envelope import Page
from yuanlian.kit.errors import ServiceUnavailableError
from yuanlian.kit.identity.principal import Principal
from yuanlian.kit.tenancy.scope import across_tenants, tenant_scope
from yuanlian.services.analytics.models import StudentDayRow
from yuanlian.services.analytics.service import AnalyticsService

NOVEMBER = {"from": "2026-11-01", "to": "2026-11-30"}
EVENTS = [event(f"s{n}", "present", 2, on=f"2026-11-{n % 28 + 1:02}") for n in range(450)]


def test_lost_and_damaged_rows_come_back_and_foreign_ones_go(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        await world.count(*EVENTS, event("s1", tenant_id=STAR))
        world.remember(EVENTS)
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
        await world.count(event("ghost", on="2026-11-05"))

        reply = await world.ask(PRINCIPAL, "POST", "rebuild", NOVEMBER)
        assert (reply.status, reply.data) == (200, {"read": 450, "changed": 3})
        assert await world.rows() == right
        assert [query.get("cursor") for _, _, query in world.tenant.calls] == [None, "200", "400"]
        again = await world.ask(PRINCIPAL, "POST", "rebuild", NOVEMBER)
        assert again.data == {"read": 450, "changed": 0}

    play(tmp_path, scenario)


def test_rows_outside_the_range_are_left_alone(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        await world.count(event("s1", on="2026-10-31"), event("s1", on="2026-12-01"))
        await world.ask(PRINCIPAL, "POST", "rebuild", NOVEMBER)
        assert {row.date for row in await world.rows()} == {date(2026, 10, 31), date(2026, 12, 1)}

    play(tmp_path, scenario)


def test_an_event_that_arrives_while_history_is_read_is_kept(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        await world.count(event("s1", "present", 1))

        class Meanwhile:
            """The tenant service, which had answered before two more events were committed."""

            async def call(self, *_: Any, **__: Any) -> Any:
                await world.count(event("s1", "left", 2), event("s2", "present", 1))
                return {
                    "items": [
                        {
                            "studentId": "s1",
                            "classId": "class_1",
                            "className": "小一班",
                            "date": "2026-11-24",
                            "state": "present",
                            "version": 1,
                        }
                    ],
                    "nextCursor": None,
                }

        service = AnalyticsService(database=world.database, client=Meanwhile())
        with tenant_scope(PRINCIPAL.tenant_id):
            await service.rebuild(PRINCIPAL, date(2026, 11, 1), date(2026, 11, 30))
        assert {(row.student, row.state, row.version) for row in await world.rows()} == {
            ("s1", "left", 2),
            ("s2", "present", 1),
        }

    play(tmp_path, scenario)


def test_a_history_that_cannot_be_read_to_its_end_changes_nothing(tmp_path: Path) -> None:
    def breaks_off(_who: Principal, query: dict[str, str]) -> Page[StudentDay]:
        if "cursor" in query:
            raise ServiceUnavailableError
        return Page([StudentDay("s9", "class_1", "小一班", "2026-11-24", "present", 1)], "1")

    async def scenario(world: World) -> None:
        await world.count(event("s1"))
        before = await world.rows()
        world.tenant.answers[DAYS_PATH] = breaks_off
        assert (await world.ask(PRINCIPAL, "POST", "rebuild", NOVEMBER)).status == 503
        assert await world.rows() == before

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
