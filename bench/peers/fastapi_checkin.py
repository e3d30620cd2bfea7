"""The usual way to write the check-in: what `make bench-checkin` measures 园联 against.

FastAPI, pydantic, one SQLAlchemy ORM session per request, uvicorn with uvloop and httptools. Everything
happens in the request: verify the token, look up tenant, child, class, the teacher's classes and the
guardians, store the event, fold the child's day, one notification per guardian, the day's count,
commit. SQLite is as durable as ours (WAL, ``synchronous=FULL``), and transactions begin IMMEDIATE,
without which SQLite refuses concurrent read-then-write transactions.

Written to be fair: no access log, no metrics, no rate limit, no separate gateway, no event bus; all
of which ours has. Endpoints and session are synchronous, as in FastAPI's own tutorial: the same code
with ``AsyncSession`` over aiosqlite did a third fewer check-ins a second (124 beside 189).

    python bench/peers/fastapi_checkin.py --port 9000 --database peer.db --pool 1   (YUANLIAN_JWT_SECRET)
"""

from __future__ import annotations

import argparse
import os
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

import uvicorn
from fastapi import Depends, FastAPI, Header, HTTPException, Request
from fastapi.responses import JSONResponse
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import OctKey
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Engine, ForeignKey, Index, UniqueConstraint, create_engine, event, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

SHANGHAI = ZoneInfo("Asia/Shanghai")
LATE_AFTER = "09:00"
PERMISSION = "attendance.write"


class Base(DeclarativeBase):
    pass


class Tenant(Base):
    __tablename__ = "tenants"
    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    status: Mapped[str]


class Classroom(Base):
    __tablename__ = "classes"
    id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"), index=True)
    name: Mapped[str]


class Student(Base):
    __tablename__ = "students"
    id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"), index=True)
    class_id: Mapped[str] = mapped_column(ForeignKey("classes.id"))
    name: Mapped[str]


class Guardian(Base):
    __tablename__ = "guardians"
    id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str] = mapped_column(index=True)
    user_id: Mapped[str | None]
    name: Mapped[str]


class StudentGuardian(Base):
    __tablename__ = "student_guardians"
    student_id: Mapped[str] = mapped_column(primary_key=True)
    guardian_id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str]
    relation: Mapped[str]


class StaffClass(Base):
    __tablename__ = "staff_classes"
    user_id: Mapped[str] = mapped_column(primary_key=True)
    class_id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str]


class AttendanceEvent(Base):
    __tablename__ = "attendance_events"
    __table_args__ = (
        UniqueConstraint("tenant_id", "event_id"),
        Index(None, "tenant_id", "student_id", "occurred_at"),
    )
    id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str]
    event_id: Mapped[str]
    student_id: Mapped[str]
    class_id: Mapped[str]
    type: Mapped[str]
    date: Mapped[date]
    occurred_at: Mapped[int]
    received_at: Mapped[int]
    temperature: Mapped[float | None]
    recorded_by: Mapped[str]


class AttendanceDay(Base):
    __tablename__ = "attendance_days"
    student_id: Mapped[str] = mapped_column(primary_key=True)
    date: Mapped[date] = mapped_column(primary_key=True)
    tenant_id: Mapped[str]
    class_id: Mapped[str]
    state: Mapped[str]
    first_in_at: Mapped[int | None]


class Notification(Base):
    __tablename__ = "notifications"
    __table_args__ = (Index(None, "tenant_id", "user_id"),)
    id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str]
    user_id: Mapped[str | None]
    event_id: Mapped[str]
    title: Mapped[str]
    created_at: Mapped[int]


class AttendanceDaily(Base):
    __tablename__ = "attendance_daily"
    tenant_id: Mapped[str] = mapped_column(primary_key=True)
    class_id: Mapped[str] = mapped_column(primary_key=True)
    date: Mapped[date] = mapped_column(primary_key=True)
    present: Mapped[int] = mapped_column(default=0)
    late: Mapped[int] = mapped_column(default=0)


class EventIn(BaseModel):
    model_config = ConfigDict(extra="forbid")

    studentId: str = Field(min_length=1, max_length=64)
    type: Literal["check_in", "check_out", "absent", "leave"]
    eventId: str | None = Field(default=None, max_length=64)
    occurredAt: int | None = None
    method: Literal["staff", "kiosk", "card", "qr"] | None = None
    temperature: float | None = Field(default=None, ge=34, le=43)


class RequestBody(BaseModel):
    data: EventIn
    meta: dict[str, Any] | None = None


@dataclass(frozen=True)
class Caller:
    user_id: str
    tenant_id: str
    permissions: frozenset[str]


def make_engine(path: str, pool: int) -> Engine:
    engine = create_engine(
        f"sqlite:///{path}",
        pool_size=pool,
        max_overflow=0,
        connect_args={"check_same_thread": False},
    )

    @event.listens_for(engine, "connect")
    def _pragmas(connection: Any, _record: Any) -> None:
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=10000", "cache_size=-16000"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def session(request: Request) -> Iterator[Session]:
    with request.app.state.sessions() as opened:
        yield opened


def caller(request: Request, authorization: Annotated[str, Header()] = "") -> Caller:
    try:
        token = jwt.decode(authorization.removeprefix("Bearer "), request.app.state.key, algorithms=["HS256"])
        claims = token.claims
        if claims["exp"] <= time.time() or claims["aud"] != "yuanlian:api":
            raise HTTPException(401, "未登录或登录已过期")
        return Caller(claims["sub"], claims["tenantId"], frozenset(claims["permissions"]))
    except (JoseError, ValueError, KeyError):
        raise HTTPException(401, "未登录或登录已过期") from None


def record(
    body: RequestBody,
    who: Annotated[Caller, Depends(caller)],
    db: Annotated[Session, Depends(session)],
) -> dict[str, Any]:
    started = time.perf_counter()
    if PERMISSION not in who.permissions:
        raise HTTPException(403, "权限不足")
    data = check_in(db, who, body.data)
    return {
        "success": True,
        "code": 201,
        "message": "操作成功",
        "data": data,
        "meta": {
            "timestamp": int(time.time() * 1000),
            "requestId": str(uuid.uuid4()),
            "duration": int((time.perf_counter() - started) * 1000),
        },
    }


async def render(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return JSONResponse(
        {"success": False, "code": error.status_code, "message": error.detail}, error.status_code
    )


def make_app(engine: Engine, secret: bytes) -> FastAPI:
    app = FastAPI()
    app.state.sessions = sessionmaker(engine, expire_on_commit=False)
    app.state.key = OctKey.import_key(secret)
    app.add_exception_handler(HTTPException, render)
    app.post("/api/tenant/attendance/events", status_code=201)(record)
    return app


def check_in(db: Session, who: Caller, event_in: EventIn) -> dict[str, Any]:
    tenant = db.get(Tenant, who.tenant_id)
    if tenant is None or tenant.status != "active":
        raise HTTPException(403, "租户不可用")
    student = db.get(Student, event_in.studentId)
    if student is None or student.tenant_id != who.tenant_id:
        raise HTTPException(404, "资源不存在")
    if db.get(StaffClass, (who.user_id, student.class_id)) is None:
        raise HTTPException(403, "权限不足")
    classroom = db.get(Classroom, student.class_id)
    now = int(time.time() * 1000)
    occurred_at = event_in.occurredAt or now
    local = datetime.fromtimestamp(occurred_at / 1000, UTC).astimezone(SHANGHAI)
    state = "late" if local.strftime("%H:%M") > LATE_AFTER else "present"
    record = AttendanceEvent(
        id=f"att_{uuid.uuid4().hex}",
        tenant_id=who.tenant_id,
        event_id=event_in.eventId or uuid.uuid4().hex,
        student_id=student.id,
        class_id=student.class_id,
        type=event_in.type,
        date=local.date(),
        occurred_at=occurred_at,
        received_at=now,
        temperature=event_in.temperature,
        recorded_by=who.user_id,
    )
    db.add(record)
    fold_day(db, record, state)
    notify(db, record, student, classroom)
    count(db, record, state)
    try:
        db.commit()
    except IntegrityError:
        raise HTTPException(409, "资源冲突") from None
    return {
        "id": record.id,
        "eventId": record.event_id,
        "studentId": student.id,
        "classId": student.class_id,
        "type": record.type,
        "date": record.date.isoformat(),
        "occurredAt": occurred_at,
        "receivedAt": now,
        "recordedBy": who.user_id,
        "dayState": state,
    }


def fold_day(db: Session, record: AttendanceEvent, state: str) -> None:
    day = db.get(AttendanceDay, (record.student_id, record.date))
    if day is None:
        db.add(
            AttendanceDay(
                student_id=record.student_id,
                date=record.date,
                tenant_id=record.tenant_id,
                class_id=record.class_id,
                state=state,
                first_in_at=record.occurred_at,
            )
        )
    else:
        day.state = state


def notify(db: Session, record: AttendanceEvent, student: Student, classroom: Classroom | None) -> None:
    guardians = db.scalars(
        select(Guardian)
        .join(StudentGuardian, StudentGuardian.guardian_id == Guardian.id)
        .where(StudentGuardian.student_id == student.id, Guardian.tenant_id == record.tenant_id)
    )
    where = classroom.name if classroom else ""
    for guardian in guardians:
        db.add(
            Notification(
                id=f"ntf_{uuid.uuid4().hex}",
                tenant_id=record.tenant_id,
                user_id=guardian.user_id,
                event_id=record.id,
                title=f"{student.name}({where})已入园",
                created_at=record.received_at,
            )
        )


def count(db: Session, record: AttendanceEvent, state: str) -> None:
    key = (record.tenant_id, record.class_id, record.date)
    daily = db.get(AttendanceDaily, key)
    if daily is None:
        daily = AttendanceDaily(tenant_id=key[0], class_id=key[1], date=key[2], present=0, late=0)
        db.add(daily)
    if state == "late":
        daily.late += 1
    else:
        daily.present += 1


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--port", type=int, required=True)
    arguments.add_argument("--database", required=True)
    arguments.add_argument("--pool", type=int, default=5)
    options = arguments.parse_args()
    app = make_app(make_engine(options.database, options.pool), os.environ["YUANLIAN_JWT_SECRET"].encode())
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=options.port,
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_level="warning",
    )


if __name__ == "__main__":
    main()
