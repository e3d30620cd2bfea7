"""All SQL of attendance. The statements of a group commit take the keys of many tenants at once:
ids are unique across tenants, and every row is matched with its tenant again by the caller."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import date, time
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import (
    BindParameter,
    Select,
    and_,
    bindparam,
    func,
    or_,
    select,
    update,
)
from sqlalchemy.orm import Session
from sqlalchemy.sql import ColumnElement

from yuanlian.contracts.attendance import Recipient
from yuanlian.kit.database.bulk import Row, few_lengths, insert_rows
from yuanlian.kit.database.schema import table_of
from yuanlian.services.tenant.attendance.day import Calendar, Day
from yuanlian.services.tenant.attendance.models import AttendanceDay, AttendanceEvent
from yuanlian.services.tenant.roster.models import Classroom, Guardian, Guardianship, Student
from yuanlian.services.tenant.tenants.models import TenantRow

Key = tuple[str, str]
DayKey = tuple[str, str, date]

_EVENTS = table_of(AttendanceEvent)
_DAYS = table_of(AttendanceDay)
_STUDENTS = table_of(Student)
_CLASSES = table_of(Classroom)
_GUARDIANS = table_of(Guardian)
_GUARDIANSHIPS = table_of(Guardianship)
_TENANTS = table_of(TenantRow)


def _any_of(name: str) -> BindParameter[Sequence[Any]]:
    return bindparam(name, expanding=True)


# Built once: a group commit runs them for every group, and building costs more than running.
_CALENDARS = select(_TENANTS.c.id, _TENANTS.c.time_zone, _TENANTS.c.late_after).where(
    _TENANTS.c.id.in_(_any_of("tenants"))
)
_STUDENTS_BY_ID = (
    select(
        _STUDENTS.c.tenant_id,
        _STUDENTS.c.id,
        _STUDENTS.c.name,
        _STUDENTS.c.class_id,
        _STUDENTS.c.status,
        _CLASSES.c.name.label("class_name"),
    )
    # In this order, whatever MySQL's statistics make of the tables: they lag behind an import.
    .prefix_with("STRAIGHT_JOIN", dialect="mysql")
    .select_from(_STUDENTS)
    .join(
        _CLASSES,
        and_(_CLASSES.c.tenant_id == _STUDENTS.c.tenant_id, _CLASSES.c.id == _STUDENTS.c.class_id),
    )
    .where(_STUDENTS.c.id.in_(_any_of("students")))
)
_EVENTS_BY_EVENT_ID = select(_EVENTS).where(_EVENTS.c.event_id.in_(_any_of("event_ids")))
# Locked, where several processes write: what is folded into a day must be in it already when it is read.
_DAYS_OF = (
    select(_DAYS)
    .where(_DAYS.c.student_id.in_(_any_of("students")), _DAYS.c.date.in_(_any_of("dates")))
    .with_for_update()
)
_RECIPIENTS_OF = (
    select(
        _GUARDIANSHIPS.c.tenant_id,
        _GUARDIANSHIPS.c.student_id,
        _GUARDIANS.c.id,
        _GUARDIANS.c.user_id,
        _GUARDIANS.c.name,
        _GUARDIANSHIPS.c.relation,
        _GUARDIANS.c.email,
        _GUARDIANS.c.phone,
    )
    .prefix_with("STRAIGHT_JOIN", dialect="mysql")
    .select_from(_GUARDIANSHIPS)
    .join(
        _GUARDIANS,
        and_(
            _GUARDIANS.c.tenant_id == _GUARDIANSHIPS.c.tenant_id,
            _GUARDIANS.c.id == _GUARDIANSHIPS.c.guardian_id,
        ),
    )
    .where(_GUARDIANSHIPS.c.receives_notices, _GUARDIANSHIPS.c.student_id.in_(_any_of("students")))
)
_UPDATE_DAYS = (
    update(_DAYS)
    .where(
        _DAYS.c.tenant_id == bindparam("key_tenant"),
        _DAYS.c.student_id == bindparam("key_student"),
        _DAYS.c.date == bindparam("key_date"),
    )
    .values(
        {
            name: bindparam(f"new_{name}")
            for name in (
                "class_id",
                "state",
                "state_at",
                "first_in_at",
                "last_out_at",
                "temperature",
                "temperature_at",
                "version",
            )
        }
    )
)


class AttendanceRepository:
    def __init__(self, session: Session) -> None:
        self._session = session

    # -- the group commit ---------------------------------------------------------------------

    def calendars(self, tenants: Collection[str]) -> dict[str, Calendar]:
        rows = self._execute(_CALENDARS, tenants=tenants)
        return {row.id: Calendar(ZoneInfo(row.time_zone), time.fromisoformat(row.late_after)) for row in rows}

    def students(self, ids: Collection[str]) -> dict[Key, Any]:
        """Rows with ``name class_id class_name status`` by (tenant, student)."""
        rows = self._execute(_STUDENTS_BY_ID, students=ids)
        return {(row.tenant_id, row.id): row for row in rows}

    def events_of(self, event_ids: Collection[str]) -> dict[Key, Any]:
        """Recorded events by (tenant, client's event id)."""
        rows = self._execute(_EVENTS_BY_EVENT_ID, event_ids=event_ids)
        return {(row.tenant_id, row.event_id): row for row in rows}

    def days_of(self, students: Collection[str], dates: Collection[date]) -> dict[DayKey, Day]:
        rows = self._execute(_DAYS_OF, students=students, dates=dates)
        return {
            (row.tenant_id, row.student_id, row.date): Day(
                row.state,
                row.state_at,
                row.first_in_at,
                row.last_out_at,
                row.temperature,
                row.temperature_at,
                row.version,
            )
            for row in rows
        }

    def recipients_of(self, students: Collection[str]) -> dict[Key, tuple[Recipient, ...]]:
        """The guardians who may be told about each (tenant, student), as of this transaction."""
        found: defaultdict[Key, list[Recipient]] = defaultdict(list)
        rows = self._execute(_RECIPIENTS_OF, students=students)
        for tenant, student, guardian, user, name, relation, email, phone in rows:
            found[tenant, student].append(Recipient(guardian, name, relation, user, email, phone))
        return {key: tuple(people) for key, people in found.items()}

    def add_events(self, rows: Sequence[Row]) -> None:
        insert_rows(self._session, _EVENTS, rows)

    def add_days(self, days: Mapping[DayKey, tuple[str, Day]]) -> None:
        """Days without a row so far, each with the child's class."""
        insert_rows(self._session, _DAYS, [_day_row(key, *value) for key, value in days.items()])

    def change_days(self, days: Mapping[DayKey, tuple[str, Day]]) -> None:
        if days:
            rows = [_day_update(key, *value) for key, value in days.items()]
            self._session.connection().execute(_UPDATE_DAYS, rows)

    def _execute(self, statement: Select[Any], **keys: Collection[Any]) -> Sequence[Any]:
        """Past the ORM: rows are all that is wanted."""
        lists = {name: few_lengths(values) for name, values in keys.items()}
        return self._session.connection().execute(statement, lists).all()

    # -- reading ------------------------------------------------------------------------------

    def classroom(self, tenant_id: str, class_id: str) -> Classroom | None:
        return self._session.get(Classroom, (tenant_id, class_id))

    def student(self, tenant_id: str, student_id: str) -> Student | None:
        return self._session.get(Student, (tenant_id, student_id))

    def board(
        self,
        day: date,
        enrolled_before: int | None,
        class_id: str | None,
        visible: ColumnElement[bool] | None,
    ) -> Sequence[Any]:
        """Each child of that day with what was recorded, or without: unchecked.

        Today (``enrolled_before`` None) that is who is active now, in the class of now. Of a day that
        is over, it is who has a record, in the class it was recorded in, and who is active and was
        enrolled before that instant (epoch ms). ``class_id`` is the present class, which decides who
        may see the child; ``board_class_id`` the one it stands in on the board.
        """
        over = enrolled_before is not None
        board_class = func.coalesce(_DAYS.c.class_id, Student.class_id) if over else Student.class_id
        active: ColumnElement[bool] = Student.status == "active"
        if over:
            active = or_(_DAYS.c.state.is_not(None), and_(active, Student.created_at < enrolled_before))
        query = (
            select(
                Student.id,
                Student.name,
                Student.class_id,
                board_class.label("board_class_id"),
                _DAYS.c.state,
                _DAYS.c.first_in_at,
                _DAYS.c.last_out_at,
                _DAYS.c.temperature,
                _DAYS.c.version,
            )
            .outerjoin(
                _DAYS,
                and_(
                    _DAYS.c.tenant_id == Student.tenant_id,
                    _DAYS.c.student_id == Student.id,
                    _DAYS.c.date == day,
                ),
            )
            .where(active)
            .order_by(board_class, Student.id)
        )
        if class_id is not None:
            query = query.where(board_class == class_id)
        if visible is not None:
            query = query.where(visible)
        return self._session.execute(query).all()

    def history(
        self,
        *,
        student_id: str | None,
        since: int | None,
        until: int | None,
        visible: ColumnElement[bool] | None,
        before: tuple[int, str] | None,
        limit: int,
    ) -> Sequence[Any]:
        """Events, newest first, with the child's present class as ``student_class_id``."""
        query = (
            select(_EVENTS, Student.class_id.label("student_class_id"))
            .join(
                Student,
                and_(Student.tenant_id == _EVENTS.c.tenant_id, Student.id == _EVENTS.c.student_id),
            )
            .order_by(_EVENTS.c.occurred_at.desc(), _EVENTS.c.id.desc())
            .limit(limit)
        )
        if student_id is not None:
            query = query.where(_EVENTS.c.student_id == student_id)
        if since is not None:
            query = query.where(_EVENTS.c.occurred_at >= since)
        if until is not None:
            query = query.where(_EVENTS.c.occurred_at < until)
        if visible is not None:
            query = query.where(visible)
        if before is not None:
            at, id_ = before
            query = query.where(
                or_(_EVENTS.c.occurred_at < at, and_(_EVENTS.c.occurred_at == at, _EVENTS.c.id < id_))
            )
        return self._session.execute(query).all()

    def days(self, first: date, last: date, after: tuple[date, str] | None, limit: int) -> Sequence[Any]:
        """Folded days in order of (date, student), with the class's present name."""
        query = (
            select(_DAYS, Classroom.name.label("class_name"))
            .outerjoin(
                Classroom,
                and_(Classroom.tenant_id == _DAYS.c.tenant_id, Classroom.id == _DAYS.c.class_id),
            )
            .where(_DAYS.c.date.between(first, last))
            .order_by(_DAYS.c.date, _DAYS.c.student_id)
            .limit(limit)
        )
        if after is not None:
            day, student = after
            query = query.where(
                or_(_DAYS.c.date > day, and_(_DAYS.c.date == day, _DAYS.c.student_id > student))
            )
        return self._session.execute(query).all()


def _day_row(key: DayKey, class_id: str, day: Day) -> Row:
    tenant_id, student_id, day_date = key
    return (
        tenant_id,
        day_date.isoformat(),
        student_id,
        class_id,
        day.state,
        day.state_at,
        day.first_in_at,
        day.last_out_at,
        day.temperature,
        day.temperature_at,
        day.version,
    )


def _day_update(key: DayKey, class_id: str, day: Day) -> dict[str, Any]:
    tenant_id, student_id, day_date = key
    return {
        "key_tenant": tenant_id,
        "key_student": student_id,
        "key_date": day_date,
        "new_class_id": class_id,
        "new_state": day.state,
        "new_state_at": day.state_at,
        "new_first_in_at": day.first_in_at,
        "new_last_out_at": day.last_out_at,
        "new_temperature": day.temperature,
        "new_temperature_at": day.temperature_at,
        "new_version": day.version,
    }
