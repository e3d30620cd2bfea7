"""What an open board promises, whatever carries its live events."""

from __future__ import annotations

from tests.support.platform import Person, eventually

_BOARD = "/api/tenant/attendance/board?classId=class_sun_01"


def a_board_catches_up(teacher: Person) -> None:
    """A check-in that happens while the board is away is told when it reconnects with its cursor."""
    cursor = teacher.get(_BOARD).data["cursor"]
    assert teacher.check_in("student_sun_004").status == 201
    eventually(lambda: teacher.get(_BOARD).data["cursor"] != cursor)
    with teacher.socket(resume=cursor) as board:
        assert board.next("attendance_update")["data"]["studentId"] == "student_sun_004"
