"""Parts of a distributed installation are taken away under a stream of check-ins of two kindergartens.

After each: every acknowledged check-in is stored once, every guardian was told exactly once, analytics
equal the attendance table, boards that were open all the while are right, and nobody was answered
wrongly meanwhile (slowly, or that a part is away, is fine). ``docs/failure-modes.md`` has the table.
"""

from __future__ import annotations

import asyncio
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import text
from tests.faults.test_kill import SEED
from tests.support.distributed import Installation, installed
from tests.support.platform import PASSWORD, eventually
from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

from yuanlian.gateway.routes import DEFAULT_ROUTES
from yuanlian.kit.database.mysql import MysqlDatabase
from yuanlian.kit.messaging.message import Message
from yuanlian.kit.messaging.repository import encode
from yuanlian.kit.tenancy.scope import across_tenants

TEACHERS = ("laoshi", "laoshi_sun_02", "laoshi2", "laoshi_star_02")
PRINCIPALS = ("yuanzhang", "yuanzhang2")
AWAY_S = 20.0
AWAY_STATUS = {502, 503, 504}
SETTLED_S = 90.0


class Teacher(threading.Thread):
    """Checks the children of one class in and out, one after the other, as a device at the gate does: an
    event that was not acknowledged is sent again, with its id, until it is."""

    def __init__(self, base: str, username: str, prefix: str) -> None:
        super().__init__(daemon=True)
        self._http = httpx.Client(base_url=base, timeout=20, trust_env=False)
        token = sign_in(self._http, username)["accessToken"]
        self._http.headers["authorization"] = f"Bearer {token}"
        self._students: list[str] = eventually(self._children)
        self._prefix = f"{prefix}-{username}"
        self._enough = threading.Event()
        self.acknowledged: list[str] = []
        self.wrong: list[tuple[int, str]] = []
        self.away = 0

    def _children(self) -> list[str] | None:
        """None while the gateway, which has just been started, has not found the tenant service."""
        answer = self._http.get("/api/tenant/students?limit=200")
        if answer.status_code == 503:
            return None
        assert answer.status_code == 200, answer.text
        return [student["id"] for student in answer.json()["data"]["items"]]

    def run(self) -> None:
        number = 0
        while not self._enough.is_set() and not self.wrong:
            student = self._students[number % len(self._students)]
            kind = "check_out" if (number // len(self._students)) % 2 else "check_in"
            self._send({"eventId": f"{self._prefix}-{number}", "studentId": student, "type": kind})
            number += 1
            time.sleep(0.005)
        self._http.close()

    def finish(self) -> None:
        self._enough.set()
        self.join(timeout=SETTLED_S)
        assert not self.is_alive(), "an event was never acknowledged"

    def _send(self, event: dict[str, Any]) -> None:
        while True:
            try:
                answer = self._http.post("/api/tenant/attendance/events", json={"data": event})
            except httpx.TransportError:
                self.away += 1
            else:
                if answer.status_code in (200, 201):
                    self.acknowledged.append(event["eventId"])
                    return
                if answer.status_code not in AWAY_STATUS:
                    self.wrong.append((answer.status_code, answer.text))
                    return
                self.away += 1
            time.sleep(0.1)


class Board(threading.Thread):
    """A kindergarten's board, open all the time: it comes back with its cursor when it is cut off, and
    reads anew when it is told to."""

    def __init__(self, base: str, username: str) -> None:
        super().__init__(daemon=True)
        self._base = base
        self._http = httpx.Client(base_url=base, timeout=20, trust_env=False)
        self._session = sign_in(self._http, username)
        self._http.headers["authorization"] = f"Bearer {self._session['accessToken']}"
        self._closed = threading.Event()
        self._cursor = ""
        self.days: dict[str, tuple[int, str]] = {}
        self.resyncs = 0
        self._read_anew()

    def run(self) -> None:
        while not self._closed.is_set():
            try:
                self._follow()
            except (OSError, WebSocketException, TimeoutError):
                time.sleep(0.2)

    def close(self) -> None:
        self._closed.set()
        self.join(timeout=30)
        self._http.close()

    def _follow(self) -> None:
        address = self._base.replace("http", "ws", 1) + "/ws"
        with connect(address, compression=None, open_timeout=5) as connection:
            first = {
                "type": "auth",
                "token": self._session["accessToken"],
                "tenantId": self._session["user"]["tenantId"],
                "resume": self._cursor,
            }
            connection.send(json.dumps(first))
            while not self._closed.is_set():
                try:
                    self._take(json.loads(connection.recv(timeout=0.5)))
                except TimeoutError:
                    continue

    def _take(self, message: dict[str, Any]) -> None:
        if message["type"] == "resync":
            self.resyncs += 1
            self._read_anew()
        elif message["type"] == "attendance_update":
            self._cursor, news = message["cursor"], message["data"]
            known = self.days.get(news["studentId"], (0, ""))
            self.days[news["studentId"]] = max(known, (news["version"], news["status"]))

    def _read_anew(self) -> None:
        def snapshot() -> dict[str, Any] | None:
            try:
                answer = self._http.get("/api/tenant/attendance/board")
            except httpx.TransportError:
                return None
            return answer.json()["data"] if answer.status_code == 200 else None

        data = eventually(snapshot, within=SETTLED_S)
        self._cursor = data["cursor"]
        self.days = {s["studentId"]: (s["version"], s["state"]) for s in data["students"] if s["version"]}


def sign_in(http: httpx.Client, username: str) -> dict[str, Any]:
    def attempt() -> dict[str, Any] | None:
        answer = http.post("/api/auth/login", json={"data": {"username": username, "password": PASSWORD}})
        return answer.json()["data"] if answer.status_code == 200 else None

    session: dict[str, Any] = eventually(attempt)
    return session


class World:
    """The installation, and what was acknowledged in it so far."""

    def __init__(self, installation: Installation) -> None:
        self.installation = installation
        self.platform = installation.platform
        self.acknowledged: list[str] = []
        self.buried = 0
        self._cases = 0

    @contextmanager
    def stream(self) -> Iterator[None]:
        """Check-ins and open boards; in the end everything has arrived, once, where it should."""
        self._cases += 1
        base = self.platform.public
        teachers = [Teacher(base, name, f"case{self._cases}") for name in TEACHERS]
        boards = [Board(base, name) for name in PRINCIPALS]
        supervisor = Supervisor(self.platform)
        threads: Sequence[threading.Thread] = [*teachers, *boards, supervisor]
        for thread in threads:
            thread.start()
        try:
            time.sleep(1.0)
            before = _acknowledged(teachers)
            yield
            # It goes on afterwards, not only until something breaks.
            eventually(lambda: _acknowledged(teachers) > before + 100, within=SETTLED_S)
        except BaseException:
            supervisor.close()
            raise
        finally:
            for teacher in teachers:
                teacher.finish()
        for teacher in teachers:
            assert not teacher.wrong, teacher.wrong
            self.acknowledged += teacher.acknowledged
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
        self._verify()

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        async def ask() -> list[tuple[Any, ...]]:
            database = MysqlDatabase(self.installation.database.url)
            try:
                with across_tenants("fault test"):
                    return await database.read(
                        lambda session: [tuple(row) for row in session.connection().execute(text(sql))]
                    )
            finally:
                await database.close()

        return asyncio.run(ask())

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
        return Counter(self.query("SELECT source_id, user_id FROM notifications"))

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


_DAYS = "SELECT tenant_id, date, student_id, class_id, state, version FROM {}"


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


@pytest.fixture(scope="module")
def chance() -> random.Random:
    return random.Random(SEED)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Two tenant services, and so two relays at once on one outbox; one of them has a clock that is five
    minutes ahead."""
    folder = tmp_path_factory.mktemp("faults")
    routes = folder / "routes.yaml"
    lines = DEFAULT_ROUTES.read_text(encoding="utf-8").splitlines()
    routes.write_text("\n".join(line for line in lines if "rateLimit:" not in line), encoding="utf-8")
    with installed(folder, replicas={"tenant": 2}, settings={"YUANLIAN_ROUTES": str(routes)}) as made:
        yield World(made)


def _kill(part: str) -> Callable[[World, random.Random], None]:
    def kill(world: World, chance: random.Random) -> None:
        for _ in range(3):
            world.platform.parts[part].kill()
            time.sleep(chance.uniform(1.5, 3.0))

    return kill


def _stop_rabbitmq(world: World, _: random.Random) -> None:
    world.installation.broker.stop()
    time.sleep(AWAY_S)
    world.installation.broker.start()


def _close_rabbitmq_connections(world: World, chance: random.Random) -> None:
    for _ in range(4):
        world.installation.broker.close_connections()
        time.sleep(chance.uniform(0.2, 1.0))


def _stop_redis(world: World, _: random.Random) -> None:
    world.installation.redis.stop()
    time.sleep(AWAY_S)
    world.installation.redis.start()


def _hang_redis(world: World, _: random.Random) -> None:
    world.installation.redis.pause()
    time.sleep(5.0)
    world.installation.redis.resume()


def _flush_redis(world: World, chance: random.Random) -> None:
    for _ in range(4):
        world.installation.redis.ask("FLUSHALL")
        time.sleep(chance.uniform(0.2, 1.0))


def _restart_mariadb(world: World, _: random.Random) -> None:
    world.installation.database.stop()
    time.sleep(2.0)
    world.installation.database.start()


def _kill_mariadb(world: World, _: random.Random) -> None:
    world.installation.database.kill()
    time.sleep(1.0)
    world.installation.database.start()


@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(_kill("gateway"), id="kill gateway"),
        pytest.param(_kill("auth"), id="kill auth"),
        pytest.param(_kill("tenant"), id="kill tenant"),
        pytest.param(_kill("tenant-2"), id="kill the other tenant"),
        pytest.param(_kill("notification"), id="kill notification"),
        pytest.param(_kill("analytics"), id="kill analytics"),
        pytest.param(_stop_rabbitmq, id="RabbitMQ away for 20 s"),
        pytest.param(_close_rabbitmq_connections, id="RabbitMQ connections closed by force"),
        pytest.param(_stop_redis, id="Redis away for 20 s"),
        pytest.param(_hang_redis, id="Redis answers nothing for 5 s"),
        pytest.param(_flush_redis, id="Redis flushed"),
        pytest.param(_restart_mariadb, id="MariaDB restarted"),
        pytest.param(_kill_mariadb, id="MariaDB killed"),
    ],
)
def test_nothing_is_lost_doubled_or_told_wrongly(
    world: World, chance: random.Random, fault: Callable[[World, random.Random], None]
) -> None:
    with world.stream():
        fault(world, chance)


def test_a_poison_message_among_good_ones_is_buried_and_holds_nobody_up(world: World) -> None:
    poison = Message.new("attendance.update", "tenant_sunshine", {"studentId": ["not", "an", "event"]})
    before = _buried(world)
    with world.stream():
        _put_into_outbox(world, poison)
        eventually(lambda: _buried(world) >= before + 2)  # in every queue that cannot read it


def test_a_clock_that_is_five_minutes_ahead_changes_nothing(world: World, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import time\n"
        "_time, _time_ns = time.time, time.time_ns\n"
        "time.time = lambda: _time() + 300\n"
        "time.time_ns = lambda: _time_ns() + 300_000_000_000\n"
    )
    part = world.platform.parts["tenant-2"]
    part.environment["PYTHONPATH"] = str(tmp_path)
    try:
        with world.stream():
            part.kill()  # the supervisor starts it again, in another time
            time.sleep(6.0)
    finally:
        del part.environment["PYTHONPATH"]
        part.kill()
        world.platform.restart_ended()


def test_a_killed_instance_costs_no_idempotent_request_and_leaves_the_registry(world: World) -> None:
    """Nobody starts it again here. It stays in the registry for the rest of its life; requests avoid it."""
    base, victim = world.platform.public, world.platform.parts["tenant-2"]
    readers = [Reader(base, name) for name in TEACHERS]
    for reader in readers:
        reader.start()
    try:
        eventually(lambda: all(reader.answered > 20 for reader in readers))
        victim.kill()
        time.sleep(5.0)
        eventually(lambda: _instances(world, "tenant-service") == 1, within=90)  # lives end after a minute
    finally:
        for reader in readers:
            reader.finish()
        world.platform.restart_ended()
    assert [reader.failed for reader in readers] == [[]] * len(readers)
    eventually(lambda: _instances(world, "tenant-service") == 2)


class Reader(threading.Thread):
    """Asks for its children again and again."""

    def __init__(self, base: str, username: str) -> None:
        super().__init__(daemon=True)
        self._http = httpx.Client(base_url=base, timeout=20, trust_env=False)
        self._http.headers["authorization"] = f"Bearer {sign_in(self._http, username)['accessToken']}"
        self._enough = threading.Event()
        self.answered = 0
        self.failed: list[tuple[int, str]] = []

    def run(self) -> None:
        while not self._enough.is_set():
            answer = self._http.get("/api/tenant/students?limit=5")
            if answer.status_code == 200:
                self.answered += 1
            else:
                self.failed.append((answer.status_code, answer.text))
            time.sleep(0.01)
        self._http.close()

    def finish(self) -> None:
        self._enough.set()
        self.join(timeout=20)


def _instances(world: World, service: str) -> int:
    services = httpx.get(f"{world.platform.admin}/services", trust_env=False, timeout=20).json()["services"]
    return len(services.get(service, ()))


def _put_into_outbox(world: World, message: Message) -> None:
    async def put() -> None:
        database = MysqlDatabase(world.installation.database.url)
        try:
            with across_tenants("fault test"):
                await database.write(
                    lambda session: session.connection().execute(
                        text("INSERT INTO outbox (message_id, due_at, body) VALUES (:id, 0, :body)"),
                        {"id": message.id, "body": encode(message)},
                    )
                )
        finally:
            await database.close()

    asyncio.run(put())


def _buried(world: World) -> int:
    lines = world.installation.broker.control("list_queues", "--quiet", "name", "messages").splitlines()
    counts = dict(line.split("\t") for line in lines if "\t" in line)
    return sum(int(count) for queue, count in counts.items() if queue.endswith(".dead"))
