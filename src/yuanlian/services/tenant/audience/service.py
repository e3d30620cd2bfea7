"""Which channels a caller may follow, and whom an announcement reaches. CONTRACT §7, §11."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from sqlalchemy.orm import Session

from yuanlian.contracts import tenant
from yuanlian.contracts.tenant import Audience, AudienceMember, Channels
from yuanlian.kit.database.database import Database, reads
from yuanlian.kit.errors import AuthorizationError, NotFoundError, ValidationError
from yuanlian.kit.identity.principal import Principal
from yuanlian.services.tenant.access import Access, Attributes, attributes_of
from yuanlian.services.tenant.audience import repository
from yuanlian.services.tenant.roster.classes import repository as classes
from yuanlian.services.tenant.roster.models import Guardian, Staff
from yuanlian.services.tenant.roster.students import repository as students
from yuanlian.services.tenant.wording import NO_CLASS, NO_STUDENT

FOLLOW = "attendance.read"
ANNOUNCE = "announcement.write"
TENANT = "tenant"


class AudienceService:
    def __init__(self, database: Database, access: Access) -> None:
        self.database = database
        self._access = access

    @reads
    def attributes(self, session: Session, principal: Principal) -> tenant.Attributes:
        """The caller's ties, for conditions that another service decides."""
        return tenant.Attributes(**attributes_of(session, principal.user_id).as_user())

    @reads
    def channels(self, session: Session, principal: Principal) -> Channels:
        """What the caller follows without asking: the tenant for who sees every child, else the
        classes looked after and the own children, as far as the conditions allow."""
        if principal.holds_unconditionally(FOLLOW):
            return Channels((TENANT,))
        if not principal.holds(FOLLOW):
            return Channels(())
        attributes = self._access.attributes(session, principal, FOLLOW)
        return Channels(tuple(self._tied_channels(session, principal, attributes)))

    def _tied_channels(self, session: Session, principal: Principal, attributes: Attributes) -> Iterator[str]:
        allowed = self._access.decider(principal, FOLLOW, attributes)
        for class_id in sorted(attributes.class_ids):
            if allowed(class_id, class_id):
                yield f"class:{class_id}"
        for student_id, class_id in repository.active_children(session, attributes.student_ids):
            if allowed(student_id, class_id):
                yield f"student:{student_id}"

    @reads
    def check(self, session: Session, principal: Principal, channel: str) -> Channels:
        """The channel, if the caller may follow it.

        Raises:
            ValidationError: not a channel. NotFoundError: of nobody here. AuthorizationError
        """
        if not principal.holds(FOLLOW):
            raise AuthorizationError
        kind, _, id_ = channel.partition(":")
        attributes = self._access.attributes(session, principal, FOLLOW)
        if channel == TENANT:
            self._require_everybody(principal, FOLLOW)
        elif kind == "class" and id_:
            self._require_class(session, id_)
            self._access.check_class(principal, FOLLOW, id_, attributes)
        elif kind == "student" and id_:
            student = students.get(session, id_)
            if student is None:
                raise NotFoundError(NO_STUDENT)
            self._access.check_student(principal, FOLLOW, student, attributes)
        else:
            raise ValidationError.of("channel", "没有这种频道", "is not a channel")
        return Channels((channel,))

    @reads
    def recipients(self, session: Session, principal: Principal, audience: str) -> Audience:
        """Distinct people. ``tenant`` and ``staff`` need the grant without a condition.

        Raises:
            ValidationError: not an audience. NotFoundError: no such class. AuthorizationError
        """
        kind, _, id_ = audience.partition(":")
        if audience in (TENANT, "staff"):
            self._require_everybody(principal, ANNOUNCE)
            guardians = repository.guardians(session, None) if audience == TENANT else ()
            return Audience(tuple(_distinct(repository.staff(session, None), guardians)))
        if kind == "class" and id_:
            self._require_class(session, id_)
            attributes = self._access.attributes(session, principal, ANNOUNCE)
            self._access.check_class(principal, ANNOUNCE, id_, attributes)
            people = repository.staff(session, id_), repository.guardians(session, id_)
            return Audience(tuple(_distinct(*people)))
        raise ValidationError.of("audience", "没有这种接收范围", "is not an audience")

    def _require_everybody(self, principal: Principal, permission: str) -> None:
        if not principal.holds_unconditionally(permission):
            raise AuthorizationError

    def _require_class(self, session: Session, class_id: str) -> None:
        if classes.get(session, class_id) is None:
            raise NotFoundError(NO_CLASS)


def _distinct(staff: Iterable[Staff], guardians: Iterable[Guardian]) -> Iterator[AudienceMember]:
    """A teacher whose own child is here hears it once, with the addresses of the guardian record."""
    rest = {member.user_id: member for member in staff}
    for guardian in guardians:
        member = rest.pop(guardian.user_id, None) if guardian.user_id is not None else None
        yield AudienceMember(
            name=guardian.name if member is None else member.name,
            kind="guardian" if member is None else "staff",
            userId=guardian.user_id,
            email=guardian.email,
        )
    for member in rest.values():
        yield AudienceMember(name=member.name, kind="staff", userId=member.user_id)
