"""Rules of classes."""

from __future__ import annotations

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
from yuanlian.services.tenant.roster.classes import repository
from yuanlian.services.tenant.roster.classes.schemas import ClassChange, ClassView, NewClass
from yuanlian.services.tenant.roster.models import Classroom
from yuanlian.services.tenant.sockets import reauthorise
from yuanlian.services.tenant.wording import NO_CLASS

READ, WRITE = "class.read", "class.write"
NAME_TAKEN = Text("已有同名班级", "There is already a class of that name")
NOT_EMPTY = Text("班级里还有在读幼儿，请先转班", "There are active children in the class; move them first")


class ClassService:
    def __init__(self, database: Database, access: Access, clock: Clock, realtime: Realtime) -> None:
        self.database = database
        self._access = access
        self._clock = clock
        self._realtime = realtime

    @reads
    def list_(
        self, session: Session, principal: Principal, cursor: str | None, limit: int
    ) -> Page[ClassView]:
        """``total`` only for who sees every class."""
        attributes = self._access.attributes(session, principal, READ)
        candidates = self._access.class_candidates(principal, READ, attributes)
        allowed = self._access.decider(principal, READ, attributes)
        rows, following = visible_page(
            lambda after, n: repository.page(session, candidates, after, n),
            lambda row: allowed(row.id, row.id),
            cursor,
            limit,
            of="classes",
        )
        total = repository.count(session) if candidates is None else None
        return Page([_view(row) for row in rows], following, total)

    @reads
    def get(self, session: Session, principal: Principal, class_id: str) -> ClassView:
        return _view(self._allowed(session, principal, READ, class_id))

    @writes
    def create(self, session: Session, principal: Principal, body: NewClass) -> ClassView:
        row = Classroom(tenant_id=current_tenant(), id=new_id("class"), created_at=self._clock.now_ms())
        attributes = self._access.attributes(session, principal, WRITE)
        self._access.check_class(principal, WRITE, row.id, attributes)
        _fill(session, row, body)
        repository.add(session, row)
        return _view(row)

    @writes
    def change(self, session: Session, principal: Principal, class_id: str, body: ClassChange) -> ClassView:
        row = self._allowed(session, principal, WRITE, class_id)
        _fill(session, row, body)
        return _view(row)

    async def remove(self, principal: Principal, class_id: str) -> None:
        users = await self._remove(principal, class_id)
        await reauthorise(self._realtime, principal.tenant_id, users)

    @writes
    def _remove(self, session: Session, principal: Principal, class_id: str) -> list[str]:
        self._allowed(session, principal, WRITE, class_id)
        if repository.has_active_students(session, class_id):
            raise ConflictError(NOT_EMPTY)
        users = repository.staff_users(session, class_id)
        repository.remove(session, class_id)
        return users

    def _allowed(self, session: Session, principal: Principal, permission: str, class_id: str) -> Classroom:
        row = repository.get(session, class_id)
        if row is None:
            raise NotFoundError(NO_CLASS)
        attributes = self._access.attributes(session, principal, permission)
        self._access.check_class(principal, permission, class_id, attributes)
        return row


def _fill(session: Session, row: Classroom, body: NewClass | ClassChange) -> None:
    """A name is a class's only one: spreadsheets and people refer to it."""
    fields = Fields()
    name = fields.name("name", body.name) if body.name is not UNSET else None
    grade = body.grade
    if grade is not UNSET and grade is not None:
        grade = fields.text("grade", grade, 20)
    fields.done()
    if name is not None:
        if repository.id_of_name(session, name) not in (None, row.id):
            raise ConflictError(NAME_TAKEN)
        row.name = name
    if grade is not UNSET:
        row.grade = grade


def _view(row: Classroom) -> ClassView:
    return ClassView(row.id, row.name, row.grade, row.created_at)
