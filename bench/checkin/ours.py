"""园联 itself, as ``yuanlian up`` starts it."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from bench.checkin.contender import Count
from bench.checkin.dataset import Dataset
from bench.checkin.roster import insert_roster
from bench.checkin.sqlite import OneProcess
from yuanlian.kit.database.sqlite import SqliteDatabase
from yuanlian.kit.observe.logs import configure
from yuanlian.runtime.schema import upgrade


def effects(count: Count) -> dict[str, int]:
    """Whatever the shape, the tables are the same."""
    return {
        "attendance events": count("count(*) FROM attendance_events"),
        "attendance days": count("count(*) FROM attendance_days"),
        "notifications": count("count(*) FROM notifications"),
        "children in analytics": count("count(*) FROM analytics_student_days"),
    }


class Yuanlian(OneProcess):
    name = "园联 yuanlian"
    ours = True

    def __init__(self, directory: Path, cores: tuple[int, int] | None) -> None:
        super().__init__(directory, cores)
        self._data = directory / "data"
        self.database = self._data / "yuanlian.db"

    def prepare(self, dataset: Dataset) -> None:
        configure("bench", "warn", sys.stderr)
        database = SqliteDatabase(self.database)
        database.migrate(upgrade)
        database.migrate(lambda connection: insert_roster(connection, dataset))
        asyncio.run(database.close())

    def command(self, port: int) -> list[str]:
        return [
            *(sys.executable, "-m", "yuanlian.runtime.cli", "up"),
            *("--port", str(port), "--admin-port", "0", "--data-dir", str(self._data)),
        ]

    def work_left(self, count: Count) -> bool:
        return bool(count("EXISTS (SELECT 1 FROM outbox) OR EXISTS (SELECT 1 FROM bus_deliveries)"))

    def effects(self, count: Count) -> dict[str, int]:
        return effects(count)
