"""A distributed platform under a stream of check-ins of two kindergartens, and what has to be so
afterwards."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import aiormq
import httpx
from sqlalchemy import text
from sqlalchemy.orm import Session
from tests.support.distributed import Installation
from tests.support.people_at_work import SETTLED_S, Board, Teacher
from tests.support.platform import eventually

from deploy.servers.server import listens
from yuanlian.contracts.queues import QUEUES
from yuanlian.kit.database.mysql import MysqlDatabase
from yuanlian.kit.messaging.message import Message
from yuanlian.kit.messaging.repository import encode
from yuanlian.kit.tenancy.scope import across_tenants

TEACHERS = ("laoshi", "laoshi_sun_02", "laoshi2", "laoshi_star_02")
PRINCIPALS = ("yuanzhang", "yuanzhang2")
GOES_ON = 10
"""Check-ins that are answered while what they do not need is away."""
PAUSE_S = 15.0
"""So long nobody may be answered then: less than any outage, more than a slow machine takes."""
T = TypeVar("T")
_DAYS = "SELECT tenant_id, date, student_id, class_id, state, version FROM {}"


@dataclass
class Counts:
    """What one case was made of. ``meanwhile``: acknowledged while the part was away. ``asked_again``:
    check-ins answered with 502 to 504, or not at all, and sent again."""

    acknowledged: int = 0
    meanwhile: int = 0
    asked_again: int = 0
    restarts: int = 0
    resyncs: int = 0
    longest_pause_s: float = 0.0


class World:
    """The installation, and what was acknowledged in it so far."""

    def __init__(self, installation: Installation) -> None:
        self.installation = installation
        self.platform = installation.platform
        self.acknowledged: list[str] = []
        self._cases = 0

    @contextmanager
    def stream(self, *, goes_on: bool = False, buries: int = 0) -> Iterator[Counts]:
        """Check-ins and open boards; in the end everything has arrived, once, where it should, and ``buries``
        deliveries are among the dead. ``goes_on``: children are checked in also while the part is away."""
        self._cases += 1
        self.platform.restart_ended()  # the case before may have left a part to be started
        eventually(self.is_whole)
        counts, dead = Counts(), self.dead_letters()
        base = self.platform.public
        teachers = [Teacher(base, name, f"case{self._cases}") for name in TEACHERS]
        boards = [Board(base, name) for name in PRINCIPALS]
        supervisor, pulse = Supervisor(self.platform), Pulse(teachers)
        threads: Sequence[threading.Thread] = [*teachers, *boards, supervisor, pulse]
        for thread in threads:
            thread.start()
        try:
            time.sleep(1.0)
            before = _acknowledged(teachers)
            yield counts
            counts.meanwhile = _acknowledged(teachers) - before
            counts.longest_pause_s = round(pulse.longest_s(), 1)
            # It goes on afterwards, not only until something breaks.
            eventually(lambda: _acknowledged(teachers) > before + counts.meanwhile + 50, within=SETTLED_S)
        except BaseException:
            supervisor.close()
            raise
        finally:
            pulse.close()
            for teacher in teachers:
                teacher.finish()
                self.acknowledged += teacher.acknowledged
        for teacher in teachers:
            assert not teacher.wrong, teacher.wrong
        counts.acknowledged = sum(len(teacher.acknowledged) for teacher in teachers)
        counts.asked_again = sum(teacher.away for teacher in teachers)
        try:
            eventually(self._agrees, within=SETTLED_S)
            try:
                eventually(lambda: not self._differing(boards), within=SETTLED_S)
            except AssertionError:
                ways = [(board.is_alive(), board.resyncs, len(board.days)) for board in boards]
                raise AssertionError(
                    f"boards (alive, resyncs, days: {ways}): {self._differing(boards)}"
                ) from None
        finally:
            supervisor.close()
            for board in boards:
                board.close()
        counts.restarts, counts.resyncs = len(supervisor.restarted), sum(board.resyncs for board in boards)
        self._verify()
        assert not goes_on or (counts.meanwhile >= GOES_ON and counts.longest_pause_s < PAUSE_S), counts
        assert self.dead_letters() == dead + buries, "an outage is no message's fault"

    def is_whole(self) -> bool:
        """Whether every part is there, those that were started again included."""
        ports = [port for ports in self.platform.ports.values() for port in ports]
        return all(listens(port) for port in (self.platform.port, *ports))

    def dead_letters(self) -> int:
        """As the queues themselves have them: the broker's lists are some seconds old."""

        async def count() -> int:
            connection = await aiormq.connect(self.installation.broker.url)
            channel = await connection.channel()
            answers = [await channel.queue_declare(f"{queue}.dead", passive=True) for queue in QUEUES]
            await connection.close()
            return sum(answer.message_count or 0 for answer in answers)

        return asyncio.run(count())

    def instances(self, service: str) -> list[dict[str, Any]]:
        """As the gateway has them of the registry."""
        answer = httpx.get(f"{self.platform.admin}/services", trust_env=False, timeout=20)
        found: list[dict[str, Any]] = answer.json()["services"].get(service, [])
        return found

    def received_in_this_case(self) -> list[float]:
        """When, by the clock of whoever took it, in epoch seconds."""
        prefix = f"case{self._cases}-"
        ours = f"LEFT(event_id, {len(prefix)}) = '{prefix}'"
        rows = self.query(f"SELECT received_at FROM attendance_events WHERE {ours}")
        return [received / 1000 for (received,) in rows]

    def put_into_outbox(self, message: Message) -> None:
        row = {"id": message.id, "body": encode(message)}
        insert = text("INSERT INTO outbox (message_id, due_at, body) VALUES (:id, 0, :body)")
        self._run(lambda database: database.write(lambda s: s.connection().execute(insert, row)))

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        def rows(session: Session) -> list[tuple[Any, ...]]:
            return [tuple(row) for row in session.connection().execute(text(sql))]

        return self._run(lambda database: database.read(rows))

    def _run(self, ask: Callable[[MysqlDatabase], Coroutine[Any, Any, T]]) -> T:
        async def run() -> T:
            database = MysqlDatabase(self.installation.database.url)
            try:
                with across_tenants("fault test"):
                    return await ask(database)
            finally:
                await database.close()

        return asyncio.run(run())

    def _agrees(self) -> bool:
        """Whether everything that was caused has been done."""
        [(waiting,)] = self.query("SELECT count(*) FROM outbox")
        return waiting == 0 and self._told() == self._entitled() and self._counted() == self._days()

    def _differing(self, boards: Sequence[Board]) -> dict[str, tuple[Any, Any]]:
        """By child: the day as it is stored, and as a board shows it."""
        rows = self.query("SELECT student_id, version, state FROM attendance_days")
        days = {student: (version, state) for student, version, state in rows}
        shown = {student: day for board in boards for student, day in board.days.items()}
        return {
            student: (days.get(student), shown.get(student))
            for student in {*days, *shown}
            if days.get(student) != shown.get(student)
        }

    def _verify(self) -> None:
        stored = Counter(row[0] for row in self.query("SELECT event_id FROM attendance_events"))
        assert set(stored) == set(self.acknowledged), "a check-in is gone, or was never acknowledged"
        assert set(stored.values()) == {1}, "a check-in is stored twice"
        assert self._told() == self._entitled(), "a guardian was told twice, or not at all, or the wrong one"
        assert self._counted() == self._days(), "analytics disagree"

    def _told(self) -> Counter[tuple[Any, ...]]:
        ours = "LEFT(template, 11) = 'attendance_'"
        return Counter(self.query(f"SELECT source_id, user_id FROM notifications WHERE {ours}"))

    def _entitled(self) -> Counter[tuple[Any, ...]]:
        return Counter(
            self.query(
                """
                SELECT e.id, g.user_id FROM attendance_events e
                JOIN student_guardians sg ON sg.tenant_id = e.tenant_id AND sg.student_id = e.student_id
                JOIN guardians g ON g.tenant_id = sg.tenant_id AND g.id = sg.guardian_id
                WHERE sg.receives_notices
                """
            )
        )

    def _counted(self) -> list[tuple[Any, ...]]:
        return sorted(self.query(_DAYS.format("analytics_student_days")))

    def _days(self) -> list[tuple[Any, ...]]:
        return sorted(self.query(_DAYS.format("attendance_days")))


def _acknowledged(teachers: Sequence[Teacher]) -> int:
    for teacher in teachers:
        assert not teacher.wrong, teacher.wrong
    return sum(len(teacher.acknowledged) for teacher in teachers)


class Pulse(threading.Thread):
    """How long nobody was answered."""

    def __init__(self, teachers: Sequence[Teacher]) -> None:
        super().__init__(daemon=True)
        self._teachers = teachers
        self._closed = threading.Event()
        self._longest_s = 0.0
        self._beat_at = time.monotonic()

    def run(self) -> None:
        seen = 0
        while not self._closed.wait(0.1):
            now, count = time.monotonic(), sum(len(teacher.acknowledged) for teacher in self._teachers)
            if count > seen:
                self._longest_s = max(self._longest_s, now - self._beat_at)
                seen, self._beat_at = count, now

    def longest_s(self) -> float:
        return max(self._longest_s, time.monotonic() - self._beat_at)

    def close(self) -> None:
        self._closed.set()
        self.join(timeout=10)


class Supervisor(threading.Thread):
    """Starts again what has ended, as systemd or Kubernetes would."""

    def __init__(self, platform: Any) -> None:
        super().__init__(daemon=True)
        self._platform = platform
        self._closed = threading.Event()
        self.restarted: list[str] = []

    def run(self) -> None:
        while not self._closed.wait(0.5):
            self.restarted += self._platform.restart_ended()

    def close(self) -> None:
        self._closed.set()
        self.join(timeout=10)
