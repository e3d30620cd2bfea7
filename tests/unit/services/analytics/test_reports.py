"""Daily figures and the summary: right sums, and only of classes that are the caller's."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.services.analytics.world import PRINCIPAL, STAR, SUN, TEACHER, World, event, play

from yuanlian.kit.identity.principal import Principal

NOBODY = Principal("user_n", SUN, permissions=frozenset(("notification.read",)))
RANGE = "?from=2026-11-23&to=2026-11-24"


async def two_days(world: World) -> None:
    await world.count(
        event("s1", "present"),
        event("s2", "late"),
        event("s3", "left"),
        event("s4", "absent"),
        event("s5", "leave"),
        event("s6", "unchecked"),
        event("t1", "absent", class_id="class_2"),
        event("s1", "present", on="2026-11-23"),
        event("s1", "present", on="2026-11-22"),
        event("x1", "present", tenant_id=STAR),
    )


def test_daily_counts_every_state_per_class_and_day(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        await two_days(world)
        reply = await world.ask(PRINCIPAL, "GET", f"daily{RANGE}")
        nothing = {"present": 0, "late": 0, "absent": 0, "leave": 0, "left": 0}
        small, other = (
            {"classId": "class_1", "className": "小一班"},
            {"classId": "class_2", "className": "小二班"},
        )
        assert reply.data["items"] == [
            {"date": "2026-11-23", **small, **nothing, "present": 1, "total": 1},
            {"date": "2026-11-24", **small, **dict.fromkeys(nothing, 1), "total": 5},
            {"date": "2026-11-24", **other, **nothing, "absent": 1, "total": 1},
        ]
        assert (reply.data["nextCursor"], reply.data["total"]) == (None, 3)

    play(tmp_path, scenario)


def test_daily_of_one_class_and_of_an_unknown_one(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        await two_days(world)
        reply = await world.ask(PRINCIPAL, "GET", f"daily{RANGE}&classId=class_2")
        assert [item["classId"] for item in reply.data["items"]] == ["class_2"]
        assert (await world.ask(PRINCIPAL, "GET", f"daily{RANGE}&classId=class_9")).data["items"] == []
        # The principal sees all: nobody needs to be asked which classes are theirs.
        assert world.tenant.calls == []

    play(tmp_path, scenario)


def test_a_teacher_sees_their_classes_only(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        await two_days(world)
        daily = await world.ask(TEACHER, "GET", f"daily{RANGE}")
        assert {item["classId"] for item in daily.data["items"]} == {"class_1"}
        own = await world.ask(TEACHER, "GET", f"daily{RANGE}&classId=class_1")
        assert own.data == daily.data
        assert (await world.ask(TEACHER, "GET", f"daily{RANGE}&classId=class_2")).status == 403
        summary = await world.ask(TEACHER, "GET", f"summary{RANGE}")
        assert summary.data["totals"]["total"] == 6
        assert all(asked_by == TEACHER for _, asked_by, _ in world.tenant.calls)

    play(tmp_path, scenario)


def test_the_summary_adds_up(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        await two_days(world)
        data = (await world.ask(PRINCIPAL, "GET", f"summary{RANGE}")).data
        assert data["totals"] == {"present": 2, "late": 1, "absent": 2, "leave": 1, "left": 1, "total": 7}
        assert data["attendanceRate"] == round(4 / 7, 4)
        assert [(d["date"], d["attendanceRate"]) for d in data["days"]] == [
            ("2026-11-23", 1.0),
            ("2026-11-24", 0.5),
        ]
        assert [(c["classId"], c["className"], c["attendanceRate"]) for c in data["classes"]] == [
            ("class_1", "小一班", round(4 / 6, 4)),
            ("class_2", "小二班", 0.0),
        ]

    play(tmp_path, scenario)


def test_a_summary_of_nothing_has_no_rate(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        data = (await world.ask(PRINCIPAL, "GET", f"summary{RANGE}")).data
        assert (data["totals"]["total"], data["attendanceRate"], data["days"]) == (0, None, [])

    play(tmp_path, scenario)


@pytest.mark.parametrize("path", ["daily", "summary"])
@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("?to=2026-11-24", "from"),
        ("?from=2026-11-24", "to"),
        ("?from=2026-11-24&to=2026-11-23", "to"),
        ("?from=2025-11-23&to=2026-11-24", "to"),
        ("?from=2026-13-01&to=2026-11-24", "from"),
        ("?from=0001-01-01&to=0001-01-02", "from"),
        ("?from=2026-11-24&to=tomorrow", "to"),
    ],
)
def test_a_wrong_range_says_which_end_is_wrong(tmp_path: Path, path: str, query: str, field: str) -> None:
    async def scenario(world: World) -> None:
        reply = await world.ask(PRINCIPAL, "GET", path + query, accept_language="en")
        assert reply.status == 400
        assert field in reply.problems

    play(tmp_path, scenario)


def test_a_leap_year_fits_into_one_question(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        assert (await world.ask(PRINCIPAL, "GET", "daily?from=2028-01-01&to=2028-12-31")).status == 200

    play(tmp_path, scenario)


def test_without_the_permission_there_are_no_figures(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        for path in ("daily", "summary"):
            assert (await world.ask(NOBODY, "GET", path + RANGE)).status == 403

    play(tmp_path, scenario)
