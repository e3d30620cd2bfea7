"""The permissions there are, and the roles at birth, as data. CONTRACT §5.

Conditions are decided with a resource that has both ``id`` and ``classId``: a child's, or twice the
class's for a class.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from yuanlian.contracts.tenant import PLATFORM
from yuanlian.kit.i18n import Text
from yuanlian.services.auth.grants import Permission

PRINCIPAL, PLATFORM_ADMIN = "principal", "platform_admin"

OWN_CLASS = "resource.classId in user.classIds"
OWN_CHILD = "resource.id in user.studentIds"
# A teacher with a child here looks after some classes and is a guest of another: they are kept apart.
OWN_CHILDS_CLASS = "resource.id in user.childClassIds"


class Kind(NamedTuple):
    """``conditional``: the service behind it decides conditions, resource by resource. On any other
    permission a condition would be a promise that nobody keeps."""

    title: Text
    conditional: bool = False


CATALOGUE: Mapping[tuple[str, str], Kind] = {
    ("class", "read"): Kind(Text("查看班级", "See classes"), conditional=True),
    ("class", "write"): Kind(Text("管理班级", "Manage classes"), conditional=True),
    ("student", "read"): Kind(Text("查看幼儿", "See children"), conditional=True),
    ("student", "write"): Kind(Text("管理幼儿", "Manage children"), conditional=True),
    ("guardian", "read"): Kind(Text("查看家长", "See guardians"), conditional=True),
    ("guardian", "write"): Kind(Text("管理家长", "Manage guardians"), conditional=True),
    ("staff", "read"): Kind(Text("查看教职工", "See staff"), conditional=True),
    ("staff", "write"): Kind(Text("管理教职工", "Manage staff")),
    ("attendance", "read"): Kind(Text("查看考勤", "See attendance"), conditional=True),
    ("attendance", "write"): Kind(Text("登记考勤", "Record attendance"), conditional=True),
    ("notification", "read"): Kind(Text("查看通知", "See notifications")),
    ("announcement", "write"): Kind(Text("发布公告", "Publish announcements"), conditional=True),
    ("analytics", "read"): Kind(Text("查看统计", "See statistics"), conditional=True),
    ("analytics", "write"): Kind(Text("重建统计", "Rebuild statistics")),
    ("user", "read"): Kind(Text("查看用户", "See users")),
    ("user", "write"): Kind(Text("管理用户", "Manage users")),
    ("role", "read"): Kind(Text("查看角色", "See roles")),
    ("role", "write"): Kind(Text("管理角色", "Manage roles")),
    ("tenant", "read"): Kind(Text("查看租户", "See tenants")),
    ("tenant", "write"): Kind(Text("管理租户", "Manage tenants")),
}


@dataclass(frozen=True, slots=True)
class BuiltInRole:
    id: str
    name: Text
    permissions: tuple[Permission, ...]


def _of(*names: str, condition: str | None = None) -> tuple[Permission, ...]:
    pairs = (name.split(".") for name in names)
    return tuple(Permission(resource, action, condition) for resource, action in pairs)


_PLATFORM_ADMIN = BuiltInRole(
    PLATFORM_ADMIN,
    Text("平台管理员", "Platform admin"),
    _of("tenant.read", "tenant.write", "user.read", "user.write", "role.read", "role.write"),
)
_PRINCIPAL = BuiltInRole(
    PRINCIPAL,
    Text("园长", "Principal"),
    # Everything there is within a kindergarten; tenants themselves are the operators' business.
    tuple(Permission(*key) for key in CATALOGUE if key[0] != "tenant"),
)
_TEACHER = BuiltInRole(
    "teacher",
    Text("教师", "Teacher"),
    (
        *_of(
            "class.read",
            "student.read",
            "guardian.read",
            "attendance.read",
            "attendance.write",
            "announcement.write",
            "analytics.read",
            condition=OWN_CLASS,
        ),
        *_of("notification.read"),
    ),
)
_HEALTH_OFFICER = BuiltInRole(
    "health_officer",
    Text("保健员", "Health officer"),
    _of("class.read", "student.read", "attendance.read", "attendance.write", "notification.read"),
)
_GUARDIAN = BuiltInRole(
    "guardian",
    Text("家长", "Guardian"),
    (
        *_of("student.read", "attendance.read", condition=OWN_CHILD),
        *_of("class.read", condition=OWN_CHILDS_CLASS),
        *_of("notification.read"),
    ),
)

_OPERATORS: Mapping[str, BuiltInRole] = {_PLATFORM_ADMIN.id: _PLATFORM_ADMIN}
_KINDERGARTEN: Mapping[str, BuiltInRole] = {
    role.id: role for role in (_PRINCIPAL, _TEACHER, _HEALTH_OFFICER, _GUARDIAN)
}


def built_in(tenant_id: str) -> Mapping[str, BuiltInRole]:
    """The roles at birth of a tenant: operators' in the platform's own, a kindergarten's elsewhere."""
    return _OPERATORS if tenant_id == PLATFORM else _KINDERGARTEN
