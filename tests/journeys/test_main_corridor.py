"""A teacher checks a child in → its guardians and nobody else are told → every open board of the
class moves → analytics count it. DESIGN §1."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

from tests.support.boards import a_board_catches_up
from tests.support.platform import People, eventually


def _today_counts(people: People) -> dict[str, int]:
    day = people("yuanzhang").get("/api/tenant/attendance/board").data["date"]
    page = people("yuanzhang").get(f"/api/analytics/attendance/daily?from={day}&to={day}&limit=200").data
    assert page["nextCursor"] is None, "a day of a kindergarten fits on one page"
    daily = page["items"]
    keys = ("present", "late", "absent", "leave", "left")
    return {key: sum(item[key] for item in daily) for key in keys}


def _matches_the_board(people: People) -> bool:
    board = people("yuanzhang").get("/api/tenant/attendance/board").data["counts"]
    return all(board[key] == count for key, count in _today_counts(people).items())


def test_a_check_in_reaches_the_right_people_boards_and_counts(people: People) -> None:
    teacher, principal = people("laoshi"), people("yuanzhang")
    mother, other = people("jiazhang", "tenant_sunshine"), people("jiazhang2")
    before, before_other = len(mother.inbox()), len(other.inbox())
    with (
        teacher.socket() as class_board,
        principal.socket() as tenant_board,
        mother.socket() as phone,
        other.socket() as other_phone,
        people("yuanzhang2").socket() as elsewhere,
    ):
        answer = teacher.check_in("student_sun_001", temperature=36.6, method="staff")
        assert answer.status == 201
        assert answer.data["dayState"] in ("present", "late")
        for board in (class_board, tenant_board, phone):
            update = board.next("attendance_update")
            assert update["data"]["studentId"] == "student_sun_001"
            assert update["data"]["status"] == answer.data["dayState"]
            assert update["tenantId"] == "tenant_sunshine"
        told = phone.next("notification")
        assert told["tenantId"] == "tenant_sunshine"
        assert other_phone.silent("notification")
        assert elsewhere.silent("attendance_update", until=0.1)
    eventually(lambda: len(mother.inbox()) == before + 1)
    assert len(other.inbox()) == before_other
    eventually(lambda: _matches_the_board(people))


def test_the_guardian_reads_the_notice_and_its_receipt(people: People) -> None:
    teacher, mother = people("laoshi"), people("jiazhang", "tenant_sunshine")
    before = {item["id"] for item in mother.inbox()}
    teacher.post("/api/tenant/attendance/events", {"studentId": "student_sun_001", "type": "check_out"})
    fresh = eventually(lambda: [item for item in mother.inbox() if item["id"] not in before])
    [notice] = fresh
    assert mother.post(f"/api/notifications/{notice['id']}/read").status == 200
    receipts = mother.get(f"/api/notifications/{notice['id']}/receipts").data["items"]
    assert {r["channel"] for r in receipts} >= {"inapp"}


def test_one_guardian_with_children_in_two_kindergartens_keeps_them_apart(people: People) -> None:
    star = people("jiazhang", "tenant_star")
    before = len(people("jiazhang", "tenant_sunshine").inbox())
    assert people("laoshi2").check_in("student_star_001").status == 201
    eventually(lambda: star.inbox())
    assert {s["id"] for s in star.get("/api/tenant/students").data["items"]} == {"student_star_001"}
    assert len(people("jiazhang", "tenant_sunshine").inbox()) == before


def test_an_event_that_comes_late_is_counted_and_announced_to_nobody(people: People) -> None:
    teacher, mother = people("laoshi"), people("jiazhang2")
    before = len(mother.inbox())
    with mother.socket() as phone:
        late = int(time.time() * 1000) - 31 * 60_000
        assert teacher.check_in("student_sun_002", occurredAt=late).status == 201
        assert phone.silent("notification", until=1.0)
        assert phone.silent("attendance_update", until=0.1)
    assert len(mother.inbox()) == before
    history = mother.get("/api/tenant/attendance/events?studentId=student_sun_002").data["items"]
    assert late in [event["occurredAt"] for event in history]


def test_fifty_taps_at_once_are_one_check_in(people: People) -> None:

    teacher = people("laoshi")
    with ThreadPoolExecutor(50) as pool:
        taps = list(pool.map(lambda _: teacher.check_in("student_sun_003", eventId="tap-50"), range(50)))
    assert sorted(tap.status for tap in taps) == [200] * 49 + [201]
    assert sum(tap.data["duplicate"] for tap in taps) == 49
    assert len({tap.data["id"] for tap in taps}) == 1


def test_a_board_that_reconnects_misses_nothing(people: People) -> None:
    a_board_catches_up(people("laoshi"))
