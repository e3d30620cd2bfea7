"""``kill -9`` at random moments of a stream of check-ins, of start-up and of draining. DESIGN §6
invariants 2 and 3.

In the end each acknowledged check-in is there once, each of its guardians was told exactly once, with
one receipt per channel and one letter per address, and analytics equal the attendance table.
"""

from __future__ import annotations

import random
import signal
import sqlite3
import threading
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
from tests.support.platform import PASSWORD, Platform, eventually

KILLS = 20
TEACHERS = ("laoshi", "laoshi_sun_02", "laoshi_sun_03", "laoshi2")


class Stream(threading.Thread):
    """One teacher checking in the children of one class, one after the other, until the line is cut."""

    def __init__(self, base: str, token: str, students: list[str], round_: int) -> None:
        super().__init__(daemon=True)
        self._client = httpx.Client(
            base_url=base, timeout=5, trust_env=False, headers={"authorization": f"Bearer {token}"}
        )
        self._students = students
        self._round = round_
        self.acknowledged: list[str] = []
        self.refused: list[tuple[int, str]] = []

    def run(self) -> None:
        with self._client:
            for number in range(10_000):
                event_id = f"k{self._round}-{self._students[0]}-{number}"
                student = self._students[number % len(self._students)]
                kind = "check_out" if number % 3 == 2 else "check_in"
                data = {"eventId": event_id, "studentId": student, "type": kind}
                try:
                    answer = self._client.post("/api/tenant/attendance/events", json={"data": data})
                except httpx.TransportError:
                    return
                if answer.status_code == 201:
                    self.acknowledged.append(event_id)
                else:
                    self.refused.append((answer.status_code, answer.text))
                    return


def test_nothing_acknowledged_is_lost_or_told_twice(tmp_path: Path, chance: random.Random) -> None:
    data_dir = tmp_path / "data"
    platform = Platform(data_dir).start()
    signed_in = [_sign_in(platform.public, name) for name in TEACHERS]
    acknowledged: list[str] = []
    for round_ in range(KILLS):
        streams = [Stream(platform.public, token, kids, round_) for token, kids in signed_in]
        for stream in streams:
            stream.start()
        time.sleep(chance.uniform(0.02, 0.5))
        if chance.random() < 0.2:
            _kill_while_draining(platform, chance)
        else:
            platform.kill()
        for stream in streams:
            stream.join(timeout=10)
            assert not stream.refused, stream.refused
            acknowledged += stream.acknowledged
        if chance.random() < 0.2:
            platform.spawn()
            time.sleep(chance.uniform(0.05, 1.5))
            platform.kill()
        platform.start()

    eventually(lambda: _drained(data_dir))
    assert platform.stop() == 0
    assert len(acknowledged) > KILLS
    _verify(data_dir, acknowledged)


def _kill_while_draining(platform: Platform, chance: random.Random) -> None:
    assert platform.process is not None
    platform.process.send_signal(signal.SIGINT)
    time.sleep(chance.uniform(0.0, 0.1))
    platform.kill()


def _sign_in(base: str, username: str) -> tuple[str, list[str]]:
    with httpx.Client(base_url=base, timeout=20, trust_env=False) as client:
        login = client.post("/api/auth/login", json={"data": {"username": username, "password": PASSWORD}})
        token = login.json()["data"]["accessToken"]
        page = client.get(
            "/api/tenant/students?limit=200", headers={"authorization": f"Bearer {token}"}
        ).json()["data"]
        return token, [student["id"] for student in page["items"]]


def _query(data_dir: Path, sql: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(f"file:{data_dir / 'yuanlian.db'}?mode=ro", uri=True)) as connection:
        return connection.execute(sql).fetchall()


def _drained(data_dir: Path) -> bool:
    [(waiting,)] = _query(
        data_dir, "SELECT (SELECT count(*) FROM outbox) + (SELECT count(*) FROM bus_deliveries)"
    )
    return bool(waiting == 0)


def _verify(data_dir: Path, acknowledged: list[str]) -> None:
    stored = Counter(event_id for (event_id,) in _query(data_dir, "SELECT event_id FROM attendance_events"))
    assert set(acknowledged) <= set(stored), "an acknowledged check-in is gone"
    assert set(stored.values()) == {1}, "a check-in is stored twice"

    entitled = Counter(
        _query(
            data_dir,
            """
            SELECT e.id, g.user_id FROM attendance_events e
            JOIN student_guardians sg ON sg.tenant_id = e.tenant_id AND sg.student_id = e.student_id
            JOIN guardians g ON g.tenant_id = sg.tenant_id AND g.id = sg.guardian_id
            WHERE sg.receives_notices
            """,
        )
    )
    told = Counter(_query(data_dir, "SELECT source_id, user_id FROM notifications"))
    assert told == entitled, "a guardian was told twice, or not at all, or the wrong one"

    receipts = "SELECT channel, status, count(*) FROM notification_receipts GROUP BY 1, 2"
    assert {row[:2] for row in _query(data_dir, receipts)} == {("inapp", "delivered"), ("email", "sent")}
    count = {channel: number for channel, _, number in _query(data_dir, receipts)}
    assert count["inapp"] == told.total()
    assert count["email"] == len(list((data_dir / "mail").glob("*.eml")))

    days = "SELECT tenant_id, date, student_id, class_id, state, version FROM {} ORDER BY 1, 2, 3"
    counted = _query(data_dir, days.format("analytics_student_days"))
    assert counted == _query(data_dir, days.format("attendance_days")), "analytics disagree"
    assert _query(data_dir, "SELECT count(*) FROM dead_letters") == [(0,)]
