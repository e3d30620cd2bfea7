"""Rules of staff. Which classes somebody looks after decides what they see, so a change of it ends
their open connections."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import UNSET
from sqlalchemy.orm import Session

from yuanlian.kit.clock import Clock
from yuanlian.kit.database.database import Database, reads, writes
from yuanlian.kit.envelope import Page
from yuanlian.kit.errors import AuthorizationError, ConflictError, NotFoundError
from yuanlian.kit.i18n import Text
from yuanlian.kit.identity.principal import Principal
from yuanlian.kit.ids import new_id
from yuanlian.kit.realtime.hub import Realtime
from yuanlian.kit.tenancy.scope import current_tenant
from yuanlian.services.tenant.access import Access
from yuanlian.services.tenant.accounts import Account, Accounts
from yuanlian.services.tenant.fields import Fields
from yuanlian.services.tenant.listing import visible_page
from yuanlian.services.tenant.roster.classes import repository as classes
from yuanlian.services.tenant.roster.models import Staff
from yuanlian.services.tenant.roster.staff import repository
from yuanlian.services.tenant.roster.staff.schemas import NewStaff, StaffChange, StaffView
from yuanlian.services.tenant.sockets import reauthorise

READ, WRITE = "staff.read", "staff.write"
NO_STAFF = Text("员工不存在", "No such member of staff")
ALREADY = Text("该用户已登记为员工", "This user is already a member of staff")


class StaffService:
    """Writing needs the grant without a condition: who may assign classes decides who sees which
    children. Reading under a condition reaches oneself and the staff of one's classes."""

    def __init__(
        self, database: Database, access: Access, accounts: Accounts, clock: Clock, realtime: Realtime
    ) -> None:
        self.database = database
        self._access = access
        self._accounts = accounts
        self._clock = clock
        self._realtime = realtime

    @reads
    def list_(
        self, session: Session, principal: Principal, cursor: str | None, limit: int
    ) -> Page[StaffView]:
        attributes = self._access.attributes(session, principal, READ)
        candidates = self._access.staff_candidates(principal, READ, attributes)
        rows, following = visible_page(
            lambda after, n: repository.page(session, candidates, after, n),
            lambda row: self._sees(session, principal, row),
            cursor,
            limit,
            of="staff",
        )
        taught = repository.classes_of(session, [row.id for row in rows])
        total = repository.count(session) if candidates is None else None
        return Page([_view(row, taught[row.id]) for row in rows], following, total)

    @reads
    def get(self, session: Session, principal: Principal, staff_id: str) -> StaffView:
        row = _found(session, staff_id)
        if not self._sees(session, principal, row):
            raise AuthorizationError
        return _view(row, repository.classes_of(session, [row.id])[row.id])

    async def create(self, principal: Principal, body: NewStaff) -> StaffView:
        _require_unconditional(principal)
        account = await self._accounts.find(principal, body.userId)
        view = await self._create(body, account)
        await reauthorise(self._realtime, principal.tenant_id, [view.userId])
        return view

    async def change(self, principal: Principal, staff_id: str, body: StaffChange) -> StaffView:
        _require_unconditional(principal)
        view, reassigned = await self._change(staff_id, body)
        await reauthorise(self._realtime, principal.tenant_id, [view.userId] if reassigned else [])
        return view

    async def remove(self, principal: Principal, staff_id: str) -> None:
        _require_unconditional(principal)
        user_id = await self._remove(staff_id)
        await reauthorise(self._realtime, principal.tenant_id, [user_id])

    @writes
    def _create(self, session: Session, body: NewStaff, account: Account) -> StaffView:
        fields = Fields()
        name = fields.name("name", body.name) if body.name is not None else account.name
        class_ids = _known_classes(session, fields, body.classIds)
        fields.done()
        if repository.by_user(session, account.id) is not None:
            raise ConflictError(ALREADY)
        row = Staff(
            tenant_id=current_tenant(),
            id=new_id("staff"),
            user_id=account.id,
            name=name,
            created_at=self._clock.now_ms(),
        )
        repository.add(session, row)
        repository.assign(session, row, class_ids)
        return _view(row, class_ids)

    @writes
    def _change(self, session: Session, staff_id: str, body: StaffChange) -> tuple[StaffView, bool]:
        """The member of staff, and whether the classes are others now."""
        row = _found(session, staff_id)
        before = repository.classes_of(session, [staff_id])[staff_id]
        class_ids = before
        fields = Fields()
        if body.name is not UNSET:
            row.name = fields.name("name", body.name)
        if body.classIds is not UNSET:
            class_ids = _known_classes(session, fields, body.classIds)
        fields.done()
        if class_ids != before:
            repository.assign(session, row, class_ids)
        return _view(row, class_ids), class_ids != before

    @writes
    def _remove(self, session: Session, staff_id: str) -> str:
        row = _found(session, staff_id)
        repository.remove(session, staff_id)
        return row.user_id

    def _sees(self, session: Session, principal: Principal, row: Staff) -> bool:
        """A condition is asked about each class of the member of staff; one that holds suffices.
        ``resource.id`` is the member's, and without any class ``resource.classId`` is empty."""
        if principal.holds_unconditionally(READ):
            return True
        attributes = self._access.attributes(session, principal, READ)
        taught = repository.classes_of(session, [row.id])[row.id]
        allowed = self._access.decider(principal, READ, attributes)
        return any(allowed(row.id, class_id) for class_id in taught or [""])


def _require_unconditional(principal: Principal) -> None:
    if not principal.holds_unconditionally(WRITE):
        raise AuthorizationError


def _found(session: Session, staff_id: str) -> Staff:
    row = repository.get(session, staff_id)
    if row is None:
        raise NotFoundError(NO_STAFF)
    return row


def _known_classes(session: Session, fields: Fields, class_ids: Sequence[str]) -> list[str]:
    """In order and without repetition; an unknown one is refused where it stands."""
    known = classes.known(session, class_ids)
    for index, class_id in enumerate(class_ids):
        fields.known(f"classIds[{index}]", class_id, known)
    return sorted(set(class_ids))


def _view(row: Staff, class_ids: list[str]) -> StaffView:
    return StaffView(row.id, row.user_id, row.name, class_ids, row.created_at)
