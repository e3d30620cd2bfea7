"""The usual way: ``bench/peers/fastapi_checkin.py``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from sqlalchemy import Table, insert

from bench.checkin.contender import Count
from bench.checkin.dataset import Dataset
from bench.checkin.sqlite import OneProcess
from bench.peers import fastapi_checkin as peer

SCRIPT = Path(peer.__file__)


class UsualWay(OneProcess):
    """``pool``: database connections; SQLite has one writer, so more of them is not always better."""

    def __init__(self, directory: Path, cores: tuple[int, int] | None, pool: int) -> None:
        super().__init__(directory, cores)
        self.name = f"the usual way (pool of {pool})"
        self._pool = pool

    def prepare(self, dataset: Dataset) -> None:
        engine = peer.make_engine(str(self.database), 1)
        with engine.begin() as connection:
            peer.Base.metadata.create_all(connection)
            for tenant_id in dataset.tenant_ids():
                for model, rows in _rows(dataset, tenant_id):
                    table = model.__table__
                    assert isinstance(table, Table)
                    connection.execute(insert(table), rows)
        engine.dispose()

    def command(self, port: int) -> list[str]:
        return [
            *(sys.executable, str(SCRIPT), "--port", str(port)),
            *("--database", str(self.database), "--pool", str(self._pool)),
        ]

    def work_left(self, count: Count) -> bool:  # noqa: ARG002 - everything is done in the request
        return False

    def effects(self, count: Count) -> dict[str, int]:
        return {
            "attendance events": count("count(*) FROM attendance_events"),
            "attendance days": count("count(*) FROM attendance_days"),
            "notifications": count("count(*) FROM notifications"),
            "children in analytics": count("sum(present + late) FROM attendance_daily"),
        }


def _rows(dataset: Dataset, tenant_id: str) -> list[tuple[type[peer.Base], list[dict[str, Any]]]]:
    children = list(dataset.children_of(tenant_id))
    guardians = [(child, guardian) for child in children for guardian in child.guardian_ids]
    own = {"tenant_id": tenant_id}
    return [
        (peer.Tenant, [{"id": tenant_id, "name": tenant_id, "status": "active"}]),
        (
            peer.Classroom,
            [{**own, "id": id_, "name": id_[-2:] + "班"} for id_ in dataset.class_ids(tenant_id)],
        ),
        (
            peer.StaffClass,
            [
                {**own, "user_id": user, "class_id": class_id}
                for teacher, user in enumerate(dataset.teacher_ids(tenant_id))
                for class_id in dataset.classes_of(tenant_id, teacher)
            ],
        ),
        (
            peer.Student,
            [{**own, "id": c.id, "class_id": c.class_id, "name": c.name} for c in children],
        ),
        (
            peer.Guardian,
            [{**own, "id": id_, "user_id": f"user_{id_}", "name": "家长"} for _, id_ in guardians],
        ),
        (
            peer.StudentGuardian,
            [
                {**own, "student_id": child.id, "guardian_id": id_, "relation": "母亲"}
                for child, id_ in guardians
            ],
        ),
    ]
