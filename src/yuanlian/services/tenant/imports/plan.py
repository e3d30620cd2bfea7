"""From checked rows and what is known already to the rows that will be written, or the errors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from sqlalchemy.orm import Session

from yuanlian.kit.errors import FieldError
from yuanlian.kit.i18n import Text
from yuanlian.kit.ids import new_id
from yuanlian.kit.tenancy.scope import current_tenant
from yuanlian.services.tenant.imports import repository
from yuanlian.services.tenant.imports.children import PARENT_FIELDS, Child, Parent
from yuanlian.services.tenant.imports.repository import ChildKey
from yuanlian.services.tenant.roster.repository import Row
from yuanlian.services.tenant.wording import UNKNOWN_CLASS

Allowed = Callable[[str, str], bool]
"""Whether the caller may, of (child id, class id)."""


class Rights(NamedTuple):
    """What the caller may: ``enrol`` a child, ``register`` its guardians."""

    enrol: Allowed
    register: Allowed


AMBIGUOUS = Text("有多个同名班级，请填写班级编号", "names several classes; give the class id")
NOT_YOURS = Text("无权向该班级添加幼儿", "is a class you may not enrol children in")
NOT_YOUR_GUARDIANS = Text(
    "无权登记该班级的家长，请留空", "may only be given by who may register guardians of that class"
)
TWICE = Text("与第 {row} 行重复", "is the same child as in row {row}")
ALREADY = Text("该班级已有同名同生日的幼儿", "is already in that class with the same birth date")
OTHER_NAME = Text("该手机号已登记在另一个姓名下", "is registered under another name")


@dataclass(slots=True)
class Plan:
    """Rows to insert. ``errors``: (row number, what is wrong). ``users``: known guardians who can
    sign in and get one child more."""

    students: list[Row] = field(default_factory=list)
    guardians: list[Row] = field(default_factory=list)
    guardianships: list[Row] = field(default_factory=list)
    errors: list[tuple[int, FieldError]] = field(default_factory=list)
    users: set[str] = field(default_factory=set)


def make_plan(session: Session, children: Sequence[Child], rights: Rights, now_ms: int) -> Plan:
    """A few statements whatever the number of children; writes nothing."""
    planner = _Planner(session, children, rights, now_ms)
    for child in children:
        planner.take(child)
    return planner.plan


class _Planner:
    def __init__(self, session: Session, children: Sequence[Child], rights: Rights, now_ms: int) -> None:
        self.plan = Plan()
        self._tenant = current_tenant()
        self._rights = rights
        self._now = now_ms
        self._classes = repository.classes(session, {child.class_key for child in children})
        class_ids = set[str]().union(*self._classes.values())
        self._there = repository.children_of(session, class_ids)
        self._taken: dict[ChildKey, int] = {}
        phones = {child.parent.phone for child in children if child.parent is not None}
        known = repository.guardians(session, phones)
        self._guardians = {phone: (g.id, g.name) for phone, g in known.items()}
        self._users = {g.id: g.user_id for g in known.values() if g.user_id is not None}

    def take(self, child: Child) -> None:
        """Either the child's rows are in the plan afterwards, or its errors."""
        student_id = new_id("student")
        errors = list(child.errors)
        class_id = self._class_id(child, student_id, errors)
        if class_id is not None:
            self._check_new(child, class_id, errors)
            self._check_rights(child, student_id, class_id, errors)
        if child.parent is not None and not errors:
            self._check_name(child.parent, errors)
        if errors or class_id is None:
            self.plan.errors.extend((child.row, error) for error in errors)
            return
        self.plan.students.append(self._student(child, student_id, class_id))
        if child.parent is not None:
            self._relate(student_id, child.parent)

    def _class_id(self, child: Child, student_id: str, errors: list[FieldError]) -> str | None:
        if not child.class_key:
            return None
        found = sorted(self._classes.get(child.class_key, ()))
        if len(found) != 1:
            errors.append(FieldError("class", AMBIGUOUS if found else UNKNOWN_CLASS))
            return None
        if not self._rights.enrol(student_id, found[0]):
            errors.append(FieldError("class", NOT_YOURS))
            return None
        return found[0]

    def _check_new(self, child: Child, class_id: str, errors: list[FieldError]) -> None:
        key = (child.name, child.birth_date, class_id)
        first = self._taken.setdefault(key, child.row)
        if first != child.row:
            errors.append(FieldError("name", TWICE.with_(row=first)))
        elif key in self._there:
            errors.append(FieldError("name", ALREADY))

    def _check_rights(self, child: Child, student_id: str, class_id: str, errors: list[FieldError]) -> None:
        """Before anything is looked up about the guardian, so that the answer tells nothing."""
        if child.parent is not None and not self._rights.register(student_id, class_id):
            errors.extend(FieldError(name, NOT_YOUR_GUARDIANS) for name in PARENT_FIELDS)

    def _check_name(self, parent: Parent, errors: list[FieldError]) -> None:
        known = self._guardians.get(parent.phone)
        if known is not None and known[1] != parent.name:
            errors.append(FieldError("guardianPhone", OTHER_NAME))

    def _student(self, child: Child, student_id: str, class_id: str) -> Row:
        return {
            "tenant_id": self._tenant,
            "id": student_id,
            "name": child.name,
            "gender": child.gender,
            "birth_date": child.birth_date,
            "class_id": class_id,
            "status": "active",
            "created_at": self._now,
            "updated_at": self._now,
        }

    def _relate(self, student_id: str, parent: Parent) -> None:
        guardian_id = self._guardian_id(parent)
        if guardian_id in self._users:
            self.plan.users.add(self._users[guardian_id])
        self.plan.guardianships.append(
            {
                "tenant_id": self._tenant,
                "student_id": student_id,
                "guardian_id": guardian_id,
                "relation": parent.relation,
                "can_pick_up": True,
                "receives_notices": True,
                "created_at": self._now,
            }
        )

    def _guardian_id(self, parent: Parent) -> str:
        """The known person of that number, from the roster or an earlier row, or a new one."""
        if parent.phone not in self._guardians:
            id_ = new_id("guardian")
            self._guardians[parent.phone] = id_, parent.name
            self.plan.guardians.append(
                {
                    "tenant_id": self._tenant,
                    "id": id_,
                    "user_id": None,
                    "name": parent.name,
                    "phone": parent.phone,
                    "email": None,
                    "created_at": self._now,
                }
            )
        return self._guardians[parent.phone][0]
