"""A child's day comes out the same in whatever order its events arrive. DESIGN §6 invariant 5."""

from __future__ import annotations

from datetime import UTC, datetime, time
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from yuanlian.contracts.attendance import EventType
from yuanlian.services.tenant.attendance.day import Calendar, Day, fold, unchecked

CALENDAR = Calendar(ZoneInfo("Asia/Shanghai"), time(9, 0))
NINE = int(datetime(2026, 11, 24, 1, 0, tzinfo=UTC).timestamp() * 1000)
MINUTE = 60_000

Happened = tuple[EventType, int, float | None]
TYPES: st.SearchStrategy[EventType] = st.sampled_from(("check_in", "check_out", "absent", "leave"))
# Few instants, so that several events often share one.
EVENTS = st.lists(
    st.tuples(
        TYPES,
        st.integers(-3, 3).map(lambda minutes: NINE + minutes * MINUTE),
        st.one_of(st.none(), st.sampled_from((36.5, 37.0, 38.9))),
    ),
    max_size=6,
)


def _fold(events: list[Happened]) -> Day:
    day = unchecked()
    for type_, at, temperature in events:
        day = fold(day, type_, at, temperature, CALENDAR)
    return day


@given(EVENTS, st.randoms())
def test_any_order_of_arrival_gives_the_same_day(events: list[Happened], chance: object) -> None:
    shuffled = list(events)
    chance.shuffle(shuffled)  # type: ignore[attr-defined]
    assert _fold(shuffled) == _fold(events)


def test_no_event_is_unchecked() -> None:
    assert _fold([]).state == "unchecked"


def test_the_hour_itself_is_not_late_a_moment_after_is() -> None:
    assert _fold([("check_in", NINE, None)]).state == "present"
    assert _fold([("check_in", NINE + 1, None)]).state == "late"


def test_who_came_in_time_and_comes_back_later_is_present() -> None:
    day = _fold(
        [
            ("check_in", NINE - MINUTE, None),
            ("check_out", NINE + MINUTE, None),
            ("check_in", NINE + 2 * MINUTE, None),
        ]
    )
    assert day.state == "present"
    assert not day.arrived_late(CALENDAR)


def test_lateness_and_attendance_outlive_going_home() -> None:
    day = _fold([("check_in", NINE + MINUTE, None), ("check_out", NINE + 2 * MINUTE, None)])
    assert day.state == "left"
    assert day.attended
    assert day.arrived_late(CALENDAR)


def test_a_mistaken_check_in_that_is_taken_back_is_no_attendance() -> None:
    day = _fold([("check_in", NINE + MINUTE, None), ("absent", NINE + 2 * MINUTE, None)])
    assert (day.state, day.attended, day.arrived_late(CALENDAR)) == ("absent", False, False)


def test_a_temperature_that_arrives_late_is_kept() -> None:
    day = _fold([("check_out", NINE + MINUTE, None), ("check_in", NINE, 38.9)])
    assert (day.state, day.temperature) == ("left", 38.9)
