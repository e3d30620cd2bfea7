"""All SQL of analytics."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import date
from typing import Any, NamedTuple, cast

from sqlalchemy import Row, Table, bindparam, case, delete, func, or_, select
from sqlalchemy.dialects import mysql, sqlite
from sqlalchemy.orm import Session
from sqlalchemy.sql import ColumnElement, Insert, Select

from yuanlian.kit.database.bulk import insert_rows
from yuanlian.services.analytics.models import StudentDayRow

_DAYS = cast("Table", StudentDayRow.__table__)
_D = _DAYS.c
_VALUES = ("class_id", "class_name", "state", "attended", "arrived_late", "version")
STATES = ("present", "late", "absent", "leave", "left")

ClassDate = tuple[date, str]
"""(date, class id)"""


class StudentDate(NamedTuple):
    student_id: str
    date: date


class DayState(NamedTuple):
    class_id: str
    class_name: str
    state: str
    attended: bool
    arrived_late: bool
    version: int


class DayRow(NamedTuple):
    """A row of the table, its values in the order of the columns; ``date`` is ISO."""

    tenant_id: str
    date: str
    student_id: str
    class_id: str
    class_name: str
    state: str
    attended: bool
    arrived_late: bool
    version: int


def _sqlite_upsert() -> Insert:
    statement = sqlite.insert(_DAYS)
    return statement.on_conflict_do_update(
        index_elements=[_D.tenant_id, _D.date, _D.student_id],
        set_={name: statement.excluded[name] for name in _VALUES},
        where=statement.excluded.version >= _D.version,
    )


def _mysql_upsert() -> Insert:
    statement = mysql.insert(_DAYS)
    newer = statement.inserted.version >= _D.version
    # Assigned from left to right: ``version`` last, because the others compare with the old one.
    return statement.on_duplicate_key_update(
        [(name, func.if_(newer, statement.inserted[name], _D[name])) for name in _VALUES]
    )


_UPSERTS = {"sqlite": _sqlite_upsert(), "mysql": _mysql_upsert(), "mariadb": _mysql_upsert()}

_DELETE = delete(_DAYS).where(
    _D.date == bindparam("of_date"),
    _D.student_id == bindparam("of_student"),
    _D.version == bindparam("of_version"),
)


class AnalyticsRepository:
    def __init__(self, session: Session) -> None:
        self._session = session

    def store(self, rows: Sequence[DayRow]) -> None:
        """Puts each row in place unless a newer ``version`` is there; one statement for all of them."""
        dialect = self._session.connection().dialect.name
        insert_rows(self._session, _DAYS, rows, _UPSERTS[dialect])

    def day(self, day: date) -> dict[StudentDate, DayState]:
        """Every row of the tenant on that day."""
        query = select(_D.student_id, *(_D[name] for name in _VALUES)).where(_D.date == day)
        return {
            StudentDate(student, day): DayState(*values) for student, *values in self._session.execute(query)
        }

    def classes(self, start: date, end: date) -> Sequence[str]:
        """The classes that have rows in the range, both ends included."""
        return self._session.scalars(select(_D.class_id).where(_D.date.between(start, end)).distinct()).all()

    def remove(self, versions: dict[StudentDate, int]) -> None:
        """Removes these rows, as far as they still have that version."""
        if versions:
            self._session.execute(
                _DELETE,
                [
                    {"of_student": student, "of_date": day, "of_version": version}
                    for (student, day), version in versions.items()
                ],
            )

    def per_class_and_day(
        self, start: date, end: date, classes: Collection[str] | None, after: ClassDate | None, limit: int
    ) -> Sequence[Row[Any]]:
        """``date class_id class_name`` and the counts, in that order, of what follows ``after``."""
        which = _recorded(start, end, classes)
        if after is not None:
            day, class_id = after
            which &= (_D.date >= day) & or_(_D.date > day, _D.class_id > class_id)
        # A page ends within as many days as it has items: the rest of a year need not be grouped.
        days = select(_D.date).where(which).distinct().order_by(_D.date).limit(limit).subquery()
        which &= _D.date <= select(func.max(days.c.date)).scalar_subquery()
        query = _counts(which, _D.date, _D.class_id, func.max(_D.class_name).label("class_name"))
        query = query.group_by(_D.date, _D.class_id).order_by(_D.date, _D.class_id)
        return self._session.execute(query.limit(limit)).all()

    def per_day(self, start: date, end: date, classes: Collection[str] | None) -> Sequence[Row[Any]]:
        query = _counts(_recorded(start, end, classes), _D.date)
        return self._session.execute(query.group_by(_D.date).order_by(_D.date)).all()

    def per_class(self, start: date, end: date, classes: Collection[str] | None) -> Sequence[Row[Any]]:
        name = func.max(_D.class_name).label("class_name")
        query = _counts(_recorded(start, end, classes), _D.class_id, name)
        return self._session.execute(query.group_by(_D.class_id).order_by(_D.class_id)).all()


def _recorded(start: date, end: date, classes: Collection[str] | None) -> ColumnElement[bool]:
    """``classes``: only these; None for all. A day that is ``unchecked`` is no record."""
    which = _D.date.between(start, end) & _D.state.in_(STATES)
    return which if classes is None else which & _D.class_id.in_(classes)


def _counts(which: ColumnElement[bool], *columns: ColumnElement[Any]) -> Select[Any]:
    return select(
        *columns,
        *(_number_of(_D.state == state).label(state) for state in STATES),
        func.count().label("total"),
        _number_of(_D.attended).label("attended"),
        _number_of(_D.arrived_late).label("lateArrivals"),
    ).where(which)


def _number_of(condition: ColumnElement[bool]) -> ColumnElement[int]:
    return func.sum(case((condition, 1), else_=0))
