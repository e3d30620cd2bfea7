"""What a row says, checked as far as the row alone can tell. Pure; no database."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import NamedTuple

from yuanlian.kit.errors import FieldError
from yuanlian.kit.i18n import Text
from yuanlian.services.tenant.fields import REQUIRED, Fields
from yuanlian.services.tenant.imports.table import Row

_GENDERS = {"男": "male", "女": "female", "male": "male", "female": "female", "m": "male", "f": "female"}
# As people write dates in spreadsheets: 2021-9-3, 2021/9/3, 2021.9.3, 2021年9月3日.
_LOOSE_DATE = re.compile(r"([0-9]{4})[-/.年]([0-9]{1,2})[-/.月]([0-9]{1,2})日?")


PARENT_FIELDS = ("guardianName", "guardianPhone", "relation")


class Parent(NamedTuple):
    name: str
    phone: str
    relation: str


@dataclass(slots=True)
class Child:
    """``class_key``: a name or an id. ``errors`` are about this row; a child with any is not taken."""

    row: int
    name: str
    gender: str | None
    birth_date: date
    class_key: str
    parent: Parent | None
    errors: list[FieldError] = field(default_factory=list)

    def refuse(self, field_: str, zh: str, en: str) -> None:
        self.errors.append(FieldError(field_, Text(zh, en)))


def read_children(rows: Sequence[Row], today: date) -> list[Child]:
    return [_child(row, today) for row in rows]


def _child(row: Row, today: date) -> Child:
    fields = Fields()
    cells = row.cells
    class_key = cells["class"]
    if not class_key:
        fields.errors.append(FieldError("class", REQUIRED))
    child = Child(
        row=row.number,
        name=fields.name("name", cells["name"]),
        gender=_gender(fields, cells["gender"]),
        birth_date=_birth_date(fields, cells["birthDate"], today),
        class_key=class_key,
        parent=_parent(fields, cells),
    )
    child.errors.extend(fields.errors)
    return child


def _gender(fields: Fields, value: str) -> str | None:
    gender = _GENDERS.get(value.casefold())
    if not value:
        fields.errors.append(FieldError("gender", REQUIRED))
    elif gender is None:
        fields.refuse("gender", "应为“男”或“女”", "must be male or female")
    return gender


def _birth_date(fields: Fields, value: str, today: date) -> date:
    if not value:
        fields.errors.append(FieldError("birthDate", REQUIRED))
        return today
    if loose := _LOOSE_DATE.fullmatch(value):
        year, month, day = loose.groups()
        value = f"{year}-{month:0>2}-{day:0>2}"
    return fields.birth_date("birthDate", value, today)


def _parent(fields: Fields, cells: dict[str, str]) -> Parent | None:
    """All three cells, or none."""
    name, phone, relation = (cells[field] for field in PARENT_FIELDS)
    if not (name or phone or relation):
        return None
    name, relation = fields.name("guardianName", name), fields.relation("relation", relation)
    if not phone:
        fields.errors.append(FieldError("guardianPhone", REQUIRED))
    else:
        phone = fields.phone("guardianPhone", phone)
    return Parent(name, phone, relation)
