"""Invented people. A seeded generator, so that every installation shows the same kindergarten."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from datetime import date, timedelta

_SURNAMES = "赵钱孙李周吴郑王冯陈褚卫蒋沈韩杨朱秦尤许何吕施张孔曹严华金魏陶姜"
_FIRST = "子梓雨一思佳语沐若晨可欣嘉宇浩诗艺俊明安乐知星"
_SECOND = "涵轩萱泽彤睿琪辰妍博宁航悦然晴阳霖希瑶诺恒月"
_GRADES = ("小", "中", "大")
_NUMERALS = "一二三四"
_RELATIONS = (("母亲", "父亲"), ("父亲", "母亲"), ("母亲", "外婆"), ("奶奶", "父亲"))


@dataclass(frozen=True)
class DemoClass:
    id: str
    name: str
    grade: str


@dataclass(frozen=True)
class DemoGuardian:
    """``user`` is a username when the guardian is one of the named accounts."""

    id: str
    user_id: str
    username: str
    name: str
    phone: str
    relation: str
    email: str | None = None


@dataclass(frozen=True)
class DemoChild:
    id: str
    name: str
    gender: str
    birth_date: date
    class_id: str
    guardians: tuple[DemoGuardian, ...]


@dataclass(frozen=True)
class DemoTeacher:
    user_id: str
    username: str
    name: str
    class_id: str


@dataclass(frozen=True)
class DemoKindergarten:
    id: str
    name: str
    domain: str
    short: str
    classes: list[DemoClass] = field(default_factory=list)
    children: list[DemoChild] = field(default_factory=list)
    teachers: list[DemoTeacher] = field(default_factory=list)


def kindergarten(
    tenant_id: str,
    name: str,
    short: str,
    *,
    classes: int,
    children: int,
    named_guardians: dict[str, tuple[DemoGuardian, ...]],
    named_teachers: dict[str, DemoTeacher],
) -> DemoKindergarten:
    """``named_*`` replace the generated people of a child or class by known accounts."""
    chance = random.Random(tenant_id)  # noqa: S311 - names, not secrets
    garden = DemoKindergarten(tenant_id, name, f"{short}.localhost", short)
    per_grade = classes // len(_GRADES)
    for index in range(classes):
        grade, number = divmod(index, per_grade)
        class_name = f"{_GRADES[grade]}{_NUMERALS[number]}班"
        class_id = f"class_{short}_{index + 1:02d}"
        garden.classes.append(DemoClass(class_id, class_name, f"{_GRADES[grade]}班"))
        garden.teachers.append(
            named_teachers.get(class_id)
            or DemoTeacher(
                f"user_laoshi_{short}_{index + 1:02d}",
                f"laoshi_{short}_{index + 1:02d}",
                _adult(chance),
                class_id,
            )
        )
    size = children // classes
    for index in range(children):
        grade = (index // size) // per_grade
        garden.children.append(_child(chance, garden, index, index // size, grade, named_guardians))
    return garden


def _child(
    chance: random.Random,
    garden: DemoKindergarten,
    index: int,
    class_index: int,
    grade: int,
    named: dict[str, tuple[DemoGuardian, ...]],
) -> DemoChild:
    student_id = f"student_{garden.short}_{index + 1:03d}"
    surname = chance.choice(_SURNAMES)
    born = date(2022 - grade, 9, 1) + timedelta(days=chance.randrange(365))
    guardians = _guardians(chance, garden.short, index, surname)
    return DemoChild(
        id=student_id,
        name=surname + chance.choice(_FIRST) + chance.choice(_SECOND),
        gender=chance.choice(("male", "female")),
        birth_date=born,
        class_id=garden.classes[class_index].id,
        guardians=named.get(student_id, guardians),
    )


def _guardians(chance: random.Random, short: str, index: int, surname: str) -> tuple[DemoGuardian, ...]:
    relations = chance.choice(_RELATIONS)
    count = chance.choice((1, 2, 2))
    # 100… is no mobile prefix: these numbers can never be anybody's.
    series = {"sun": 1, "star": 2}[short]
    return tuple(
        DemoGuardian(
            id=f"guardian_{short}_{index + 1:03d}{letter}",
            user_id=f"user_jz_{short}_{index + 1:03d}{letter}",
            username=f"jz_{short}_{index + 1:03d}{letter}",
            name=(surname if relation == "父亲" else chance.choice(_SURNAMES))
            + chance.choice(_FIRST)
            + chance.choice(_SECOND),
            phone=f"100{series}{index + 1:06d}{number}",
            relation=relation,
        )
        for number, (letter, relation) in enumerate(zip("ab", relations, strict=True))
        if number < count
    )


def _adult(chance: random.Random) -> str:
    return chance.choice(_SURNAMES) + chance.choice(_FIRST) + chance.choice(_SECOND)
