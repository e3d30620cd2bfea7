"""Whatever order events arrive in, and however often, the same days are counted."""

from __future__ import annotations

import asyncio
import re
import tempfile
from datetime import date
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine
from sqlalchemy import event as listening
from sqlalchemy.dialects import mysql
from tests.unit.services.analytics.world import PRINCIPAL, STAR, SUN, TODAY, Row, World, event, play

from yuanlian.contracts.attendance import DayState
from yuanlian.kit.errors import ValidationError
from yuanlian.kit.messaging import inbox
from yuanlian.kit.messaging.message import Message
from yuanlian.services.analytics.repository import _mysql_upsert

STATES: tuple[DayState, ...] = ("present", "late", "absent", "leave", "left")


def test_the_newest_state_of_a_day_stays_whatever_comes_after_it(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        await world.count(event(state="left", version=3))
        await world.count(event(state="absent", version=1), event(state="present", version=2))
        day = date.fromisoformat(TODAY)
        assert await world.rows() == {Row(SUN, day, "student_1", "class_1", "小一班", "left", True, False, 3)}

    play(tmp_path, scenario)


def test_late_events_count_too(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        await world.count(event(on="2026-11-20", late=True))
        assert [row.date.isoformat() for row in await world.rows()] == ["2026-11-20"]

    play(tmp_path, scenario)


def test_who_came_late_has_come_late_when_they_have_left(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        await world.count(
            event("s1", "left", attended=True, arrived_late=True),
            event("s2", "left", attended=True),
            event("s3", "absent"),
        )
        assert {(r.student, r.state, r.attended, r.arrived_late) for r in await world.rows()} == {
            ("s1", "left", True, True),
            ("s2", "left", True, False),
            ("s3", "absent", False, False),
        }

    play(tmp_path, scenario)


def test_events_from_before_arrivals_were_told_apart_count_by_their_state(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        messages = [event(state, state) for state in STATES]
        for message in messages:
            assert message.data.keys().isdisjoint(("attended", "arrivedLate"))
        await world.count(*messages)
        assert {(r.state, r.attended, r.arrived_late) for r in await world.rows()} == {
            ("present", True, False),
            ("late", True, True),
            ("left", True, False),
            ("absent", False, False),
            ("leave", False, False),
        }

    play(tmp_path, scenario)


def test_fifty_deliveries_of_one_event_count_once(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        await asyncio.gather(*(world.count(event()) for _ in range(50)))
        await world.database.write(lambda s: inbox.prune(s, 2**62))
        await world.count(event())
        assert len(await world.rows()) == 1

    play(tmp_path, scenario)


def test_kindergartens_in_one_batch_stay_apart(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        await world.count(event(), event(tenant_id=STAR, state="absent", version=7))
        assert {(row.tenant, row.state) for row in await world.rows()} == {(SUN, "present"), (STAR, "absent")}

    play(tmp_path, scenario)


@pytest.mark.parametrize(
    ("data", "error"), [({"id": "x"}, msgspec.DecodeError), ({"date": "tomorrow"}, ValidationError)]
)
def test_a_malformed_event_is_refused_for_good(tmp_path: Path, data: dict[str, Any], error: type) -> None:
    async def scenario(world: World) -> None:
        whole = event().data
        broken = Message.new("attendance.update", SUN, data if "id" in data else whole | data)
        with pytest.raises(error):
            await world.count(event(), broken)
        assert await world.rows() == set()

    play(tmp_path, scenario)


def test_a_batch_takes_two_statements_whatever_its_size(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        statements: list[str] = []

        def note(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
            if not statement.startswith(("BEGIN", "SAVEPOINT", "RELEASE")):
                statements.append(statement)

        async def taken(size: int) -> int:
            statements.clear()
            await world.count(*(event(f"s{size}_{n}", tenant_id=f"tenant_{n % 50}") for n in range(size)))
            return len(statements)

        listening.listen(Engine, "before_cursor_execute", note)
        try:
            assert await taken(1) == await taken(128) == 2, statements
        finally:
            listening.remove(Engine, "before_cursor_execute", note)

    play(tmp_path, scenario)


@st.composite
def replays(draw: st.DrawFn) -> tuple[list[Message], list[list[Message]]]:
    """Days of events as they happened, and the same in any order, with repeats, in any batches."""
    happened: list[Message] = []
    for tenant_id in (SUN, STAR):
        for student in draw(st.lists(st.sampled_from(("s1", "s2", "s3")), unique=True, max_size=3)):
            for on in (TODAY, "2026-11-23"):
                states = draw(st.lists(st.sampled_from(STATES), max_size=4))
                happened += [
                    event(student, state, n, on=on, tenant_id=tenant_id, late=draw(st.booleans()))
                    for n, state in enumerate(states, 1)
                ]
    repeated = happened + draw(st.lists(st.sampled_from(happened), max_size=10)) if happened else []
    order = draw(st.permutations(repeated))
    cuts = sorted(draw(st.lists(st.integers(0, len(order)), max_size=4)))
    batches = [list(order[a:b]) for a, b in zip([0, *cuts], [*cuts, len(order)], strict=True)]
    return happened, [batch for batch in batches if batch]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(replays())
def test_any_order_of_the_same_events_ends_in_the_same_rows(
    replay: tuple[list[Message], list[list[Message]]],
) -> None:
    happened, batches = replay

    async def in_order(world: World) -> None:
        for message in happened:
            await world.count(message)
        expected.update(await world.rows())

    async def shuffled(world: World) -> None:
        for batch in batches:
            await world.count(*batch)
        assert await world.rows() == expected

        # And history, read back, says the same as the events did.
        days = await world.remember(m for m in happened if m.tenantId == SUN)
        reply = await world.ask(PRINCIPAL, "POST", "rebuild", {"from": "2026-11-01", "to": "2026-11-30"})
        assert reply.data == {"read": days, "changed": 0}
        assert await world.rows() == expected

    expected: set[Row] = set()
    with tempfile.TemporaryDirectory() as folder:
        play(Path(folder) / "in-order", in_order)
        play(Path(folder) / "shuffled", shuffled)


def test_mysql_compares_versions_before_it_overwrites_the_version() -> None:
    text = str(_mysql_upsert().compile(dialect=mysql.dialect()))
    update = text.partition("ON DUPLICATE KEY UPDATE ")[2]
    assigned = re.findall(r"(\w+) = if\(VALUES\(version\) >= analytics_student_days.version, ", update)
    assert assigned == ["class_id", "class_name", "state", "attended", "arrived_late", "version"], text
