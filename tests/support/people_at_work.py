"""People who use the platform all the time while a fault test takes its parts away."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import httpx
from tests.support.platform import PASSWORD, eventually
from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

AWAY_STATUS = {502, 503, 504}
SETTLED_S = 120.0
PAUSE_S = 0.01
"""Between two children: more would show nothing, and leave less of the machine to those who recover."""


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
            time.sleep(PAUSE_S)
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


def sign_in(http: httpx.Client, username: str) -> dict[str, Any]:
    def attempt() -> dict[str, Any] | None:
        answer = http.post("/api/auth/login", json={"data": {"username": username, "password": PASSWORD}})
        return answer.json()["data"] if answer.status_code == 200 else None

    session: dict[str, Any] = eventually(attempt)
    return session
