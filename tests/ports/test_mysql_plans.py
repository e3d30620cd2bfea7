"""How MySQL goes about the look-ups of a check-in when its statistics know nothing of the rows yet."""

from __future__ import annotations

import asyncio
from pathlib import Path

from sqlalchemy import Connection, event, text
from sqlalchemy.orm import Session
from tests.support.databases import open_database, using

from bench.checkin.dataset import Dataset
from bench.checkin.roster import insert_roster
from yuanlian.kit.tenancy.scope import across_tenants
from yuanlian.runtime.schema import metadata
from yuanlian.services.tenant.access import attributes_of_many
from yuanlian.services.tenant.attendance.repository import AttendanceRepository

CHILDREN = 3000
IMPORTED = Dataset(tenants=1, teachers=40, classes=40, children=CHILDREN, guardians=1)


def test_after_an_import_a_check_in_reads_the_rows_it_needs_and_no_whole_table(tmp_path: Path) -> None:
    """Once all guardianships were read, one by one, for teachers who had none: the server joined from the
    wrong end for as long as its statistics were those of an empty table. Now it is told where to begin."""
    tenant = IMPORTED.tenant_ids()[0]
    keys = [(tenant, teacher) for teacher in IMPORTED.teacher_ids(tenant)]
    children = [child.id for child in IMPORTED.children_of(tenant)][:50]

    joins: list[str] = []

    def look_up(session: Session) -> int:
        event.listen(session.connection(), "before_cursor_execute", lambda *a: joins.append(a[2]))
        before = _rows_scanned(session)
        attributes_of_many(session, keys)
        repository = AttendanceRepository(session)
        assert len(repository.students(children)) == len(repository.recipients_of(children)) == 50
        return _rows_scanned(session) - before

    async def scene() -> int:
        try:
            with across_tenants("a test"):
                return await database.read(look_up)
        finally:
            await database.close()

    with using("mariadb"):
        database = open_database(tmp_path / "mysql.db")
        database.migrate(metadata.create_all)
        database.migrate(_import)
        assert asyncio.run(scene()) < CHILDREN
    told = [statement for statement in joins if "JOIN" in statement.partition("FROM")[2]]
    assert len(told) == 3
    assert all(statement.startswith("SELECT STRAIGHT_JOIN ") for statement in told)


def _import(connection: Connection) -> None:
    """A moment after it: the server counts rows as they come, and looks at the keys when it finds time."""
    for table in ("students", "guardians", "student_guardians"):
        connection.exec_driver_sql(f"ALTER TABLE {table} STATS_AUTO_RECALC=0")
        connection.exec_driver_sql(f"ANALYZE TABLE {table}").all()
    insert_roster(connection, IMPORTED)


def _rows_scanned(session: Session) -> int:
    return int(session.execute(text("SHOW SESSION STATUS LIKE 'Handler_read_rnd_next'")).one()[1])
