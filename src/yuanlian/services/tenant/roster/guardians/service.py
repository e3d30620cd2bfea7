"""Rules of who answers for which child: invariant 4 of DESIGN §6 rests on these rows."""

from __future__ import annotations

from dataclasses import dataclass

from msgspec import UNSET
from sqlalchemy.orm import Session

from yuanlian.kit.clock import Clock
from yuanlian.kit.database.database import Database, reads, writes
from yuanlian.kit.envelope import Page
from yuanlian.kit.errors import ConflictError, FieldError, NotFoundError
from yuanlian.kit.i18n import Text
from yuanlian.kit.identity.principal import Principal
from yuanlian.kit.ids import new_id
from yuanlian.kit.realtime.hub import Realtime
from yuanlian.kit.tenancy.scope import current_tenant
from yuanlian.services.tenant.accounts import Account, Accounts
from yuanlian.services.tenant.fields import REQUIRED, Fields
from yuanlian.services.tenant.roster.guardians import repository
from yuanlian.services.tenant.roster.guardians.schemas import (
    GuardianshipChange,
    GuardianView,
    NewGuardian,
)
from yuanlian.services.tenant.roster.models import Guardian, Guardianship
from yuanlian.services.tenant.roster.students.service import StudentService
from yuanlian.services.tenant.sockets import reauthorise

READ, WRITE = "guardian.read", "guardian.write"
MOST_PER_CHILD = 10

NO_GUARDIAN = Text("该幼儿没有这位监护人", "The child has no such guardian")
ALREADY = Text("该监护人已登记", "This guardian is already registered for the child")
TOO_MANY = Text(
    f"每名幼儿最多登记 {MOST_PER_CHILD} 位监护人", f"A child has at most {MOST_PER_CHILD} guardians"
)
OTHER_NAME = Text("该手机号已登记在另一个姓名下", "The phone number is registered under another name")
OTHER_USER = Text("该手机号已属于另一个账号", "The phone number belongs to another account")
OTHER_EMAIL = Text("该监护人已登记了另一个邮箱", "The guardian is registered with another e-mail address")


@dataclass(frozen=True, slots=True)
class Person:
    """A guardian-to-be, checked. Without ``user_id`` there is a phone."""

    name: str
    relation: str
    user_id: str | None
    phone: str | None
    email: str | None


class GuardianService:
    def __init__(
        self,
        database: Database,
        students: StudentService,
        accounts: Accounts,
        clock: Clock,
        realtime: Realtime,
    ) -> None:
        self.database = database
        self._students = students
        self._accounts = accounts
        self._clock = clock
        self._realtime = realtime

    @reads
    def list_(self, session: Session, principal: Principal, student_id: str) -> Page[GuardianView]:
        self._students.allowed(session, principal, READ, student_id)
        rows = repository.of_student(session, student_id)
        return Page([_view(*row) for row in rows], None, len(rows))

    async def add(self, principal: Principal, student_id: str, body: NewGuardian) -> GuardianView:
        """The guardian, who may have been known here for another child already."""
        person = _checked(body, None) if body.userId is None else None
        if person is None:
            await self._check(principal, student_id)
            person = _checked(body, await self._accounts.find(principal, body.userId or ""))
        view = await self._add(principal, student_id, body, person)
        # With one child more there is one channel more.
        await self._reauthorise(principal, view.userId)
        return view

    async def change(
        self, principal: Principal, student_id: str, guardian_id: str, body: GuardianshipChange
    ) -> GuardianView:
        return await self._change(principal, student_id, guardian_id, body)

    async def remove(self, principal: Principal, student_id: str, guardian_id: str) -> None:
        """From that commit on: no message and no view of the child any more."""
        user_id = await self._remove(principal, student_id, guardian_id)
        await self._reauthorise(principal, user_id)

    @reads
    def _check(self, session: Session, principal: Principal, student_id: str) -> None:
        """Who may not touch the child need not find out which users exist."""
        self._students.allowed(session, principal, WRITE, student_id)

    @writes
    def _add(
        self, session: Session, principal: Principal, student_id: str, body: NewGuardian, person: Person
    ) -> GuardianView:
        self._students.allowed(session, principal, WRITE, student_id)
        now = self._clock.now_ms()
        known = _known(session, person)
        linked = known is not None and known.user_id is None and person.user_id is not None
        guardian = _updated(known, person) if known is not None else _new(session, person, now)
        found = repository.find(session, student_id, guardian.id)
        if found is not None and not linked:
            raise ConflictError(ALREADY)
        if found is None and repository.count(session, student_id) >= MOST_PER_CHILD:
            raise ConflictError(TOO_MANY)
        # A guardian of the child who now has an account: the same person, described anew.
        guardianship = found[1] if found is not None else _relate(session, guardian, student_id, now)
        guardianship.relation = person.relation
        guardianship.can_pick_up = body.canPickUp
        guardianship.receives_notices = body.receivesNotices
        return _view(guardian, guardianship)

    @writes
    def _change(
        self,
        session: Session,
        principal: Principal,
        student_id: str,
        guardian_id: str,
        body: GuardianshipChange,
    ) -> GuardianView:
        guardian, guardianship = self._found(session, principal, student_id, guardian_id)
        fields = Fields()
        if body.relation is not UNSET:
            guardianship.relation = fields.relation("relation", body.relation)
        if body.canPickUp is not UNSET:
            guardianship.can_pick_up = body.canPickUp
        if body.receivesNotices is not UNSET:
            guardianship.receives_notices = body.receivesNotices
        fields.done()
        return _view(guardian, guardianship)

    @writes
    def _remove(
        self, session: Session, principal: Principal, student_id: str, guardian_id: str
    ) -> str | None:
        guardian, _ = self._found(session, principal, student_id, guardian_id)
        user_id = guardian.user_id
        repository.remove(session, student_id, guardian_id)
        return user_id

    def _found(
        self, session: Session, principal: Principal, student_id: str, guardian_id: str
    ) -> tuple[Guardian, Guardianship]:
        self._students.allowed(session, principal, WRITE, student_id)
        found = repository.find(session, student_id, guardian_id)
        if found is None:
            raise NotFoundError(NO_GUARDIAN)
        return found

    async def _reauthorise(self, principal: Principal, user_id: str | None) -> None:
        if user_id is not None:
            await reauthorise(self._realtime, principal.tenant_id, [user_id])


def _checked(body: NewGuardian, account: Account | None) -> Person:
    """The person a body describes, or raises with everything that is wrong."""
    fields = Fields()
    relation = fields.relation("relation", body.relation)
    email = fields.email("email", body.email) if body.email is not None else None
    if account is not None:
        for field in ("name", "phone", "email"):
            if getattr(body, field) is not None:
                fields.refuse(field, "已指定 userId，以账号资料为准", "comes from the account; leave it out")
        fields.done()
        name, phone = account.name, _usable_phone(account)
        return Person(name, relation, account.id, phone, account.email)
    for field in ("name", "phone"):
        if getattr(body, field) is None:
            fields.errors.append(FieldError(field, REQUIRED))
    name = fields.name("name", body.name) if body.name is not None else ""
    phone = fields.phone("phone", body.phone) if body.phone is not None else None
    fields.done()
    return Person(name, relation, None, phone, email)


def _usable_phone(account: Account) -> str | None:
    """In the form in which this service compares numbers."""
    fields = Fields()
    phone = fields.phone("phone", account.phone) if account.phone else None
    return None if fields.errors else phone


def _known(session: Session, person: Person) -> Guardian | None:
    """The record of the same person: by account, else by phone number.

    A number is not enough to take somebody for somebody else: name and account must agree, or the
    wrong adult would be told about a child.
    """
    found = repository.by_user(session, person.user_id) if person.user_id is not None else None
    if found is None and person.phone is not None:
        found = repository.by_phone(session, person.phone)
        if found is not None and found.name != person.name:
            raise ConflictError(OTHER_NAME, [FieldError("phone", OTHER_NAME)])
    return found


def _updated(found: Guardian, person: Person) -> Guardian:
    """The known person, with what is new about them."""
    if person.user_id is not None:
        if found.user_id not in (None, person.user_id):
            raise ConflictError(OTHER_USER, [FieldError("userId", OTHER_USER)])
        found.user_id = person.user_id
        found.email = person.email or found.email
    elif person.email is not None:
        # The address serves the person's other children too; it is not changed in passing.
        if found.email not in (None, person.email):
            raise ConflictError(OTHER_EMAIL, [FieldError("email", OTHER_EMAIL)])
        found.email = person.email
    return found


def _new(session: Session, person: Person, now_ms: int) -> Guardian:
    guardian = Guardian(
        tenant_id=current_tenant(),
        id=new_id("guardian"),
        user_id=person.user_id,
        name=person.name,
        phone=person.phone,
        email=person.email,
        created_at=now_ms,
    )
    repository.add(session, guardian)
    return guardian


def _relate(session: Session, guardian: Guardian, student_id: str, now_ms: int) -> Guardianship:
    guardianship = Guardianship(
        tenant_id=guardian.tenant_id, student_id=student_id, guardian_id=guardian.id, created_at=now_ms
    )
    repository.add(session, guardianship)
    return guardianship


def _view(guardian: Guardian, guardianship: Guardianship) -> GuardianView:
    return GuardianView(
        id=guardian.id,
        userId=guardian.user_id,
        name=guardian.name,
        phone=guardian.phone,
        email=guardian.email,
        relation=guardianship.relation,
        canPickUp=guardianship.can_pick_up,
        receivesNotices=guardianship.receives_notices,
    )
