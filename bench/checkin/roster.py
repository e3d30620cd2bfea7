"""The dataset as rows of the platform's tables, the same in every database."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from sqlalchemy import Connection, Table, insert

from bench.checkin.dataset import Dataset
from yuanlian.kit.database.schema import table_of
from yuanlian.kit.tenancy.scope import across_tenants
from yuanlian.services.tenant.roster.models import (
    Classroom,
    Guardian,
    Guardianship,
    Staff,
    StaffClass,
    Student,
)
from yuanlian.services.tenant.tenants.models import TenantRow

Rows = Iterator[tuple[Table, list[dict[str, Any]]]]


def insert_roster(connection: Connection, dataset: Dataset) -> None:
    with across_tenants("benchmark data"):
        for tenant_id in dataset.tenant_ids():
            for table, rows in _rows(dataset, tenant_id):
                connection.execute(insert(table), rows)


def _rows(dataset: Dataset, tenant_id: str) -> Rows:
    now = int(time.time() * 1000)
    stamp = {"tenant_id": tenant_id, "created_at": now}
    tenant = {"id": tenant_id, "name": tenant_id, "status": "active", "isolation": "shared"}
    yield (
        table_of(TenantRow),
        [{**tenant, "domain": None, "time_zone": "Asia/Shanghai", "late_after": "09:00", "created_at": now}],
    )
    yield (
        table_of(Classroom),
        [
            {**stamp, "id": id_, "name": id_[-2:] + "班", "grade": None}
            for id_ in dataset.class_ids(tenant_id)
        ],
    )
    teachers = dataset.teacher_ids(tenant_id)
    yield (
        table_of(Staff),
        [{**stamp, "id": f"staff_{user}", "user_id": user, "name": "教师"} for user in teachers],
    )
    yield (
        table_of(StaffClass),
        [
            {"tenant_id": tenant_id, "staff_id": f"staff_{user}", "class_id": class_id, "user_id": user}
            for teacher, user in enumerate(teachers)
            for class_id in dataset.classes_of(tenant_id, teacher)
        ],
    )
    children = list(dataset.children_of(tenant_id))
    yield (
        table_of(Student),
        [
            {
                **stamp,
                "id": child.id,
                "name": child.name,
                "gender": None,
                "birth_date": None,
                "class_id": child.class_id,
                "status": "active",
                "updated_at": now,
            }
            for child in children
        ],
    )
    guardians = [(child, guardian) for child in children for guardian in child.guardian_ids]
    yield (
        table_of(Guardian),
        [
            {**stamp, "id": id_, "user_id": f"user_{id_}", "name": "家长", "phone": None, "email": None}
            for _, id_ in guardians
        ],
    )
    yield (
        table_of(Guardianship),
        [
            {
                **stamp,
                "student_id": child.id,
                "guardian_id": id_,
                "relation": "母亲",
                "can_pick_up": True,
                "receives_notices": True,
            }
            for child, id_ in guardians
        ],
    )
