"""SQL of imports: what is there already, and everything new in a few statements."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import date
from itertools import islice

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from yuanlian.services.tenant.roster.models import Classroom, Guardian, Student

CHUNK = 500
"""Values of one ``IN``."""

ChildKey = tuple[str, date | None, str]
"""(name, birth date, class id): the same child, as far as a spreadsheet can tell."""


def classes(session: Session, keys: Collection[str]) -> dict[str, set[str]]:
    """Class ids by id and by name, of those asked for."""
    found: dict[str, set[str]] = {}
    for chunk in _chunks(keys):
        # Nobody closes a class that children are about to enter.
        statement = select(Classroom.id, Classroom.name).with_for_update(read=True)
        for id_, name in session.execute(
            statement.where(or_(Classroom.id.in_(chunk), Classroom.name.in_(chunk)))
        ):
            found.setdefault(name, set()).add(id_)
            found.setdefault(id_, set()).add(id_)
    return found


def children_of(session: Session, class_ids: Collection[str]) -> set[ChildKey]:
    """Who is in these classes already, whatever their status."""
    found: set[ChildKey] = set()
    for chunk in _chunks(class_ids):
        statement = select(Student.name, Student.birth_date, Student.class_id)
        found.update(
            (name, born, class_id)
            for name, born, class_id in session.execute(statement.where(Student.class_id.in_(chunk)))
        )
    return found


def guardians(session: Session, phones: Collection[str]) -> dict[str, Guardian]:
    """Known guardians by phone."""
    found: dict[str, Guardian] = {}
    for chunk in _chunks(phones):
        for guardian in session.scalars(select(Guardian).where(Guardian.phone.in_(chunk))):
            found[guardian.phone or ""] = guardian
    return found


def _chunks(values: Collection[str]) -> Iterator[list[str]]:
    rest = iter(sorted(values))
    while chunk := list(islice(rest, CHUNK)):
        yield chunk
