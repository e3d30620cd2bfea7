"""Daily figures and the summary: right sums, and only of classes that are the caller's."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.tenant_side import TEACHERS_CLASSES
from tests.unit.services.analytics.world import PRINCIPAL, STAR, SUN, TEACHER, World, event, play

from yuanlian.contracts.tenant import ATTRIBUTES_PATH
from yuanlian.kit.identity.principal import Principal

NOBODY = Principal("user_n", SUN, permissions=frozenset(("notification.read",)))
RANGE = "?from=2026-11-23&to=2026-11-24"


def reader(user_id: str, *conditions: str) -> Principal:
    """Holds ``analytics.read`` under these conditions and attendance of everybody, as a teacher who is
    the health officer as well."""
    held = {"analytics.read": conditions} if conditions else {}
    return Principal(user_id, SUN, (), frozenset(("analytics.read", "attendance.read")), held)


async def two_days(world: World) -> None:
    await world.count(
        event("s1", "present"),
        event("s2", "late"),
        event("s3", "left", attended=True, arrived_late=True),
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
            {
                "date": "2026-11-23",
                **small,
                **nothing,
                "present": 1,
                "total": 1,
                "attended": 1,
                "lateArrivals": 0,
            },
            {
                "date": "2026-11-24",
                **small,
                **dict.fromkeys(nothing, 1),
                "total": 5,
                "attended": 3,
                "lateArrivals": 2,
            },
            {
                "date": "2026-11-24",
                **other,
                **nothing,
                "absent": 1,
                "total": 1,
                "attended": 0,
                "lateArrivals": 0,
            },
        ]
        assert (reply.data["nextCursor"], reply.data["total"]) == (None, None)

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
        assert {(call.path, call.principal.user_id) for call in world.tenant.calls} == {
            (ATTRIBUTES_PATH, TEACHER.user_id)
        }

    play(tmp_path, scenario)


@pytest.mark.parametrize(
    ("conditions", "classes"),
    [
        ((), {"class_1", "class_2"}),
        (TEACHERS_CLASSES, {"class_1"}),
        (("false",), set()),
        (("false", *TEACHERS_CLASSES), {"class_1"}),
        (("resource.classId == 'class_2'",), {"class_2"}),
        (("resource.id in user.childClassIds",), {"class_1"}),
        (("resource.",), set()),
        (("user.classIds",), set()),
    ],
)
def test_the_condition_of_analytics_decides_class_by_class(
    tmp_path: Path, conditions: tuple[str, ...], classes: set[str]
) -> None:
    async def scenario(world: World) -> None:
        await two_days(world)
        who = reader("user_t", *conditions)
        daily = await world.ask(who, "GET", f"daily{RANGE}")
        assert {item["classId"] for item in daily.data["items"]} == classes
        summary = (await world.ask(who, "GET", f"summary{RANGE}")).data
        assert {rate["classId"] for rate in summary["classes"]} == classes
        assert summary["totals"]["total"] == 6 * ("class_1" in classes) + ("class_2" in classes)
        for class_id in ("class_1", "class_2"):
            one = await world.ask(who, "GET", f"daily{RANGE}&classId={class_id}")
            assert one.status == (200 if class_id in classes else 403)

    play(tmp_path, scenario)


def test_who_looks_after_no_class_sees_none(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        await two_days(world)
        who = reader("user_m", *TEACHERS_CLASSES)
        assert (await world.ask(who, "GET", f"daily{RANGE}")).data["items"] == []
        assert (await world.ask(who, "GET", f"summary{RANGE}")).data["totals"]["total"] == 0

    play(tmp_path, scenario)


@pytest.mark.parametrize("who", [PRINCIPAL, TEACHER])
@pytest.mark.parametrize("limit", [1, 3, 50])
def test_pages_go_from_the_first_day_to_the_last_without_gap_or_repeat(
    tmp_path: Path, who: Principal, limit: int
) -> None:
    async def scenario(world: World) -> None:
        days = [f"2026-11-{day:02}" for day in range(1, 5)]
        await world.count(
            *(event(f"{on}{n}", on=on, class_id=f"class_{n}") for on in days for n in (1, 2, 3)),
            *(event(f"x{n}", on=f"2026-10-{n:02}", tenant_id=STAR) for n in range(1, 31)),
            *(event(f"y{n}", on=f"2026-11-{n:02}", tenant_id=STAR) for n in range(10, 31)),
        )
        seen: list[tuple[str, str]] = []
        cursor = ""
        while True:
            query = f"?from=2026-11-01&to=2026-11-30&limit={limit}{cursor}"
            page = (await world.ask(who, "GET", f"daily{query}")).data
            assert 0 < len(page["items"]) <= limit
            seen += [(item["date"], item["classId"]) for item in page["items"]]
            if page["nextCursor"] is None:
                break
            cursor = f"&cursor={page['nextCursor']}"
        visible = ("class_1", "class_2", "class_3") if who is PRINCIPAL else ("class_1",)
        assert seen == [(on, class_id) for on in days for class_id in visible]

    play(tmp_path, scenario)


@pytest.mark.parametrize(
    ("query", "field"), [("&limit=0", "limit"), ("&limit=201", "limit"), ("&cursor=x", "cursor")]
)
def test_a_wrong_page_says_so(tmp_path: Path, query: str, field: str) -> None:
    async def scenario(world: World) -> None:
        reply = await world.ask(PRINCIPAL, "GET", f"daily{RANGE}{query}")
        assert (reply.status, list(reply.problems)) == (400, [field])

    play(tmp_path, scenario)


def test_the_summary_adds_up(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        await two_days(world)
        data = (await world.ask(PRINCIPAL, "GET", f"summary{RANGE}")).data
        states = {"present": 2, "late": 1, "absent": 2, "leave": 1, "left": 1, "total": 7}
        assert data["totals"] == {**states, "attended": 4, "lateArrivals": 2}
        assert sum(states.values()) == 2 * data["totals"]["total"]
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
