"""The accounts that CONTRACT §13 promises, and the kindergartens around them."""

from __future__ import annotations

from dataclasses import dataclass

from yuanlian.contracts.tenant import PLATFORM
from yuanlian.runtime.demo.people import DemoGuardian, DemoKindergarten, DemoTeacher, kindergarten

PASSWORD = "Demo@2026"  # noqa: S105 - published, and refused in production
SUNSHINE = "tenant_sunshine"
STAR = "tenant_star"


@dataclass(frozen=True)
class DemoAccount:
    """``roles`` by tenant. ``about`` is for the table that ``yuanlian up --demo`` prints."""

    user_id: str
    username: str
    name: str
    roles: dict[str, tuple[str, ...]]
    about: str
    phone: str | None = None
    email: str | None = None


_MOTHER = DemoAccount(
    "user_jiazhang",
    "jiazhang",
    "周静",
    {SUNSHINE: ("guardian",), STAR: ("guardian",)},
    "家长：student_sun_001（阳光·小一班）、student_star_001（星星）",
    "10000000001",
    "jiazhang@example.com",
)
_FATHER = DemoAccount(
    "user_jiazhang2",
    "jiazhang2",
    "吴海",
    {SUNSHINE: ("guardian",)},
    "家长：student_sun_002",
    "10000000002",
    "jiazhang2@example.com",
)
_TEACHER = DemoAccount(
    "user_laoshi", "laoshi", "陈老师", {SUNSHINE: ("teacher",)}, "教师：小一班 class_sun_01"
)
_TEACHER2 = DemoAccount("user_laoshi2", "laoshi2", "何老师", {STAR: ("teacher",)}, "教师：class_star_01")

NAMED = (
    DemoAccount(
        "user_admin", "admin", "平台管理员", {PLATFORM: ("platform_admin",)}, "平台管理员，看不到幼儿数据"
    ),
    DemoAccount("user_yuanzhang", "yuanzhang", "李园长", {SUNSHINE: ("principal",)}, "阳光幼儿园园长"),
    _TEACHER,
    DemoAccount("user_baojian", "baojian", "孙保健", {SUNSHINE: ("health_officer",)}, "阳光幼儿园保健员"),
    _MOTHER,
    _FATHER,
    DemoAccount("user_yuanzhang2", "yuanzhang2", "许园长", {STAR: ("principal",)}, "星星幼儿园园长"),
    _TEACHER2,
)


def _guardian(account: DemoAccount, short: str, relation: str) -> tuple[DemoGuardian, ...]:
    assert account.phone is not None
    return (
        DemoGuardian(
            id=f"guardian_{short}_{account.username}",
            user_id=account.user_id,
            username=account.username,
            name=account.name,
            phone=account.phone,
            relation=relation,
            email=account.email,
        ),
    )


def _teacher(account: DemoAccount, class_id: str) -> dict[str, DemoTeacher]:
    return {class_id: DemoTeacher(account.user_id, account.username, account.name, class_id)}


def kindergartens() -> list[DemoKindergarten]:
    """12 classes with 300 children, and 6 classes with 120."""
    return [
        kindergarten(
            SUNSHINE,
            "阳光幼儿园",
            "sun",
            classes=12,
            children=300,
            named_guardians={
                "student_sun_001": _guardian(_MOTHER, "sun", "母亲"),
                "student_sun_002": _guardian(_FATHER, "sun", "父亲"),
            },
            named_teachers=_teacher(_TEACHER, "class_sun_01"),
        ),
        kindergarten(
            STAR,
            "星星幼儿园",
            "star",
            classes=6,
            children=120,
            named_guardians={"student_star_001": _guardian(_MOTHER, "star", "母亲")},
            named_teachers=_teacher(_TEACHER2, "class_star_01"),
        ),
    ]
