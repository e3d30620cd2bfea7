"""Imports: everything that is wrong is reported per row; a real import takes all rows or none."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import date

from sqlalchemy.orm import Session

from yuanlian.kit.clock import Clock
from yuanlian.kit.context import current
from yuanlian.kit.database.database import Database, reads, writes
from yuanlian.kit.errors import FieldError, ValidationError
from yuanlian.kit.identity.principal import Principal
from yuanlian.kit.realtime.hub import Realtime
from yuanlian.services.tenant.access import Access
from yuanlian.services.tenant.imports.children import Child, read_children
from yuanlian.services.tenant.imports.plan import Plan, Rights, make_plan
from yuanlian.services.tenant.imports.schemas import ImportReport, RowError
from yuanlian.services.tenant.imports.table import read_table
from yuanlian.services.tenant.roster.provisioning import provision
from yuanlian.services.tenant.sockets import reauthorise
from yuanlian.services.tenant.tenants.calendar import today

WRITE = "student.write"
GUARDIANS = ("guardian.read", "guardian.write")
MAX_ERRORS = 500
PARALLEL = 2
"""Files read at the same time: a hostile one takes a second of processor time."""


class ImportService:
    def __init__(self, database: Database, access: Access, clock: Clock, realtime: Realtime) -> None:
        self.database = database
        self._access = access
        self._clock = clock
        self._realtime = realtime
        self._reading = asyncio.Semaphore(PARALLEL)

    async def run(
        self, principal: Principal, content: bytes, *, workbook: bool, dry_run: bool
    ) -> ImportReport:
        """Takes the children of a file over.

        Raises:
            ValidationError: the file is unreadable; or, unless ``dry_run``, a row is wrong
                (``row[3].birthDate``), and nothing was written.
        """
        day = await self.database.read(lambda session: today(session, self._clock.now_ms()))
        async with self._reading:
            children = await asyncio.to_thread(_read, content, workbook, day)
        if dry_run:
            plan = await self._plan(principal, children)
            return _report(children, plan, created=0)
        plan = await self._store(principal, children)
        await reauthorise(self._realtime, principal.tenant_id, plan.users)
        return _report(children, plan, created=len(plan.students))

    @reads
    def _plan(self, session: Session, principal: Principal, children: Sequence[Child]) -> Plan:
        return self._planned(session, principal, children)

    @writes
    def _store(self, session: Session, principal: Principal, children: Sequence[Child]) -> Plan:
        plan = self._planned(session, principal, children)
        if plan.errors:
            raise ValidationError(
                details=[
                    FieldError(f"row[{row}].{error.field}", error.message)
                    for row, error in plan.errors[:MAX_ERRORS]
                ]
            )
        provision(
            session,
            students=plan.students,
            guardians=plan.guardians,
            guardianships=plan.guardianships,
        )
        return plan

    def _planned(self, session: Session, principal: Principal, children: Sequence[Child]) -> Plan:
        return make_plan(session, children, self._rights(session, principal), self._clock.now_ms())

    def _rights(self, session: Session, principal: Principal) -> Rights:
        """A row finds a known guardian by the phone number, and so tells whose it is: registering
        takes the right to read guardians too."""
        attributes = self._access.attributes(session, principal, WRITE, *GUARDIANS)
        enrol, read, write = (
            self._access.decider(principal, permission, attributes) for permission in (WRITE, *GUARDIANS)
        )
        return Rights(enrol, lambda id_, class_id: read(id_, class_id) and write(id_, class_id))


def _read(content: bytes, workbook: bool, day: date) -> list[Child]:
    return read_children(read_table(content, workbook=workbook), day)


def _report(children: Sequence[Child], plan: Plan, *, created: int) -> ImportReport:
    locale = current().locale
    wrong = {row for row, _ in plan.errors}
    return ImportReport(
        rows=len(children),
        valid=len(children) - len(wrong),
        created=created,
        errors=[
            RowError(row, error.field, error.message.render(locale))
            for row, error in plan.errors[:MAX_ERRORS]
        ],
    )
