"""Rules of enrolment."""

from __future__ import annotations

from datetime import date

from msgspec import UNSET
from sqlalchemy.orm import Session

from yuanlian.kit.clock import Clock
from yuanlian.kit.database.database import Database, reads, writes
from yuanlian.kit.envelope import Page
from yuanlian.kit.errors import ConflictError, NotFoundError
from yuanlian.kit.i18n import Text
from yuanlian.kit.identity.principal import Principal
from yuanlian.kit.ids import new_id
from yuanlian.kit.realtime.hub import Realtime
from yuanlian.kit.tenancy.scope import current_tenant
from yuanlian.services.tenant.access import Access
from yuanlian.services.tenant.fields import Fields
from yuanlian.services.tenant.listing import visible_page
from yuanlian.services.tenant.roster.classes import repository as classes
from yuanlian.services.tenant.roster.models import Student
from yuanlian.services.tenant.roster.students import repository
from yuanlian.services.tenant.roster.students.schemas import (
    NewStudent,
    StudentChange,
    StudentFilter,
    StudentView,
)
from yuanlian.services.tenant.sockets import reauthorise
from yuanlian.services.tenant.tenants.calendar import today
from yuanlian.services.tenant.wording import NO_STUDENT

READ, WRITE = "student.read", "student.write"
HAS_HISTORY = Text(
    "该幼儿已有考勤记录，不能删除，请改为离园或毕业状态",
    "The child has attendance records and cannot be deleted; set the status instead",
)


class StudentService:
    def __init__(self, database: Database, access: Access, clock: Clock, realtime: Realtime) -> None:
        self.database = database
        self._access = access
        self._clock = clock
        self._realtime = realtime

    @reads
    def list_(
        self, session: Session, principal: Principal, filter_: StudentFilter, cursor: str | None, limit: int
    ) -> Page[StudentView]:
        """``total`` only for who sees every child."""
        attributes = self._access.attributes(session, principal, READ)
        candidates = self._access.student_candidates(principal, READ, attributes)
        allowed = self._access.decider(principal, READ, attributes)
        rows, following = visible_page(
            lambda after, n: repository.page(session, filter_, candidates, after, n),
            lambda row: allowed(row.id, row.class_id),
            cursor,
            limit,
            of="students",
        )
        total = repository.count(session, filter_) if candidates is None else None
        return Page([_view(row) for row in rows], following, total)

    @reads
    def get(self, session: Session, principal: Principal, student_id: str) -> StudentView:
        return _view(self.allowed(session, principal, READ, student_id))

    @writes
    def create(self, session: Session, principal: Principal, body: NewStudent) -> StudentView:
        now = self._clock.now_ms()
        row = Student(tenant_id=current_tenant(), id=new_id("student"), created_at=now)
        _fill(session, row, body, today(session, now))
        # After the class is known to exist: the condition speaks about that class.
        attributes = self._access.attributes(session, principal, WRITE)
        self._access.check_student(principal, WRITE, row, attributes)
        row.updated_at = now
        repository.add(session, row)
        return _view(row)

    async def change(self, principal: Principal, student_id: str, body: StudentChange) -> StudentView:
        view, users = await self._change(principal, student_id, body)
        await reauthorise(self._realtime, principal.tenant_id, users)
        return view

    async def remove(self, principal: Principal, student_id: str) -> None:
        users = await self._remove(principal, student_id)
        await reauthorise(self._realtime, principal.tenant_id, users)

    @writes
    def _change(
        self, session: Session, principal: Principal, student_id: str, body: StudentChange
    ) -> tuple[StudentView, list[str]]:
        """The child, and the users whose view of it may have ended."""
        row = self.allowed(session, principal, WRITE, student_id)
        before = row.class_id, row.status
        now = self._clock.now_ms()
        _fill(session, row, body, today(session, now))
        # Nobody moves a child out of reach of their own grant, nor into somebody else's class.
        attributes = self._access.attributes(session, principal, WRITE)
        self._access.check_student(principal, WRITE, row, attributes)
        row.updated_at = now
        if before == (row.class_id, row.status):
            return _view(row), []
        users = classes.staff_users(session, before[0]) + repository.guardian_users(session, student_id)
        return _view(row), users

    @writes
    def _remove(self, session: Session, principal: Principal, student_id: str) -> list[str]:
        row = self.allowed(session, principal, WRITE, student_id)
        if repository.has_attendance(session, student_id):
            raise ConflictError(HAS_HISTORY)
        users = repository.guardian_users(session, student_id) + classes.staff_users(session, row.class_id)
        repository.remove(session, student_id)
        return users

    def allowed(self, session: Session, principal: Principal, permission: str, student_id: str) -> Student:
        """The child, if the caller may do that to it.

        Raises:
            NotFoundError, AuthorizationError
        """
        row = repository.get(session, student_id)
        if row is None:
            raise NotFoundError(NO_STUDENT)
        attributes = self._access.attributes(session, principal, permission)
        self._access.check_student(principal, permission, row, attributes)
        return row


def _fill(session: Session, row: Student, body: NewStudent | StudentChange, day: date) -> None:
    """Takes over what the body says, or raises with everything that is wrong."""
    fields = Fields()
    if body.name is not UNSET:
        row.name = fields.name("name", body.name)
    if body.gender is not UNSET:
        row.gender = body.gender
    if body.birthDate is not UNSET:
        row.birth_date = (
            fields.birth_date("birthDate", body.birthDate, day) if body.birthDate is not None else None
        )
    if body.status is not UNSET:
        row.status = body.status
    if body.classId is not UNSET:
        row.class_id = body.classId
    # A child comes back only into a class that still exists.
    if body.classId is not UNSET or body.status == "active":
        fields.known("classId", row.class_id, classes.known(session, [row.class_id]))
    fields.done()


def _view(row: Student) -> StudentView:
    return StudentView(
        id=row.id,
        name=row.name,
        gender=row.gender,
        birthDate=row.birth_date.isoformat() if row.birth_date is not None else None,
        classId=row.class_id,
        status=row.status,
        createdAt=row.created_at,
        updatedAt=row.updated_at,
    )
