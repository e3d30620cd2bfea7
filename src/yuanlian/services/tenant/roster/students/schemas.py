"""Children on the wire. CONTRACT §6."""

from __future__ import annotations

import msgspec
from msgspec import UNSET, UnsetType

from yuanlian.services.tenant.wire import DateText, Gender, Id, ShortText, StudentStatus


class NewStudent(msgspec.Struct, forbid_unknown_fields=True):
    name: ShortText
    classId: Id
    gender: Gender | None = None
    birthDate: DateText | None = None
    status: StudentStatus = "active"


class StudentChange(msgspec.Struct, forbid_unknown_fields=True):
    """Absent fields stay; ``null`` takes gender or birth date away."""

    name: ShortText | UnsetType = UNSET
    classId: Id | UnsetType = UNSET
    gender: Gender | UnsetType | None = UNSET
    birthDate: DateText | UnsetType | None = UNSET
    status: StudentStatus | UnsetType = UNSET


class StudentView(msgspec.Struct, frozen=True):
    """``birthDate`` ISO; ``createdAt``, ``updatedAt`` in epoch ms."""

    id: str
    name: str
    gender: str | None
    birthDate: str | None
    classId: str
    status: str
    createdAt: int
    updatedAt: int


class StudentFilter(msgspec.Struct, frozen=True):
    """``q``: part of a name."""

    class_id: str | None = None
    status: str | None = None
    q: str | None = None
