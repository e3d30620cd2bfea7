"""The tenant service as other services meet it: the real one, on the same database, with the rosters of
two small kindergartens. And a way to call a service's own application as a given person.

In both, 王老师 looks after 小一班, and her own child is in it; 园长 is on the staff without a class. The
other people are those of 小明 (小一班), but for 王五, whose child is in 小二班. 李爸爸 wants no notices,
and the child of 赵六 has left.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date
from functools import cached_property
from typing import Any, NamedTuple, cast

import httpx
from sqlalchemy import insert
from sqlalchemy.orm import Session

from yuanlian.contracts.attendance import StudentDay
from yuanlian.contracts.tenant import SERVICE
from yuanlian.gateway.service_client import InProcessClient
from yuanlian.kit.caching.cache import Cache
from yuanlian.kit.clock import Clock
from yuanlian.kit.database.database import Database
from yuanlian.kit.http.app import ServiceApp
from yuanlian.kit.identity.internal import HEADER, InternalIdentity
from yuanlian.kit.identity.principal import Principal
from yuanlian.kit.realtime.memory import MemoryHub
from yuanlian.kit.tenancy.scope import tenant_group, tenant_scope
from yuanlian.services.tenant.attendance.models import AttendanceDay
from yuanlian.services.tenant.module import module
from yuanlian.services.tenant.roster.provisioning import provision
from yuanlian.services.tenant.tenants.directory import DatabaseTenantDirectory
from yuanlian.services.tenant.tenants.repository import insert_many

SUN, STAR = "tenant_sun", "tenant_star"
TEACHERS_CLASSES: tuple[str, ...] = ("resource.classId in user.classIds",)

_CLASSES = {"class_1": "小一班", "class_2": "小二班", "class_3": "小三班"}
_CHILDREN = {"ming": "class_1", "wang": "class_1", "wu": "class_2", "zhao": "class_1"}
_GUARDIANS: Sequence[tuple[str, str, str, str | None, str | None, str | None]] = (
    # key, name, child, user, e-mail, phone
    ("1_m", "李妈妈", "ming", "user_m", "m@example.org", None),
    ("2_g", "李奶奶", "ming", None, "g@example.org", None),
    ("3_u", "李叔叔", "ming", None, None, "13800000000"),
    ("4_t", "王老师", "wang", "user_t", "t@example.org", None),
    ("5_f", "李爸爸", "ming", "user_f", "f@example.org", None),
    ("6_w", "王五", "wu", "user_other", "w@example.org", None),
    ("7_z", "赵六", "zhao", "user_z", "z@example.org", None),
)
_UNASKED = ("5_f",)
_GONE = ("zhao",)
_STAFF = {"p": "园长", "t": "王老师"}


class Call(NamedTuple):
    path: str
    principal: Principal
    query: dict[str, str]


class TenantSide:
    """A ``ServiceClient`` to the tenant service that remembers what it was asked."""

    def __init__(self, database: Database, clock: Clock, identity: InternalIdentity) -> None:
        self._database = database
        self._clock = clock
        self._identity = identity
        self.calls: list[Call] = []

    @cached_property
    def _service(self) -> InProcessClient:
        """Made when somebody asks: most tests do without, and routes take their time."""
        client = InProcessClient({}, self._identity)
        service = module(
            database=self._database,
            directory=DatabaseTenantDirectory(self._database, self._clock),
            clock=self._clock,
            identity=self._identity,
            client=client,
            realtime=MemoryHub(),
            cache=Cache(),
        )
        client.add(SERVICE, service.app)
        return client

    async def call(
        self,
        service: str,
        method: str,
        path: str,
        *,
        principal: Principal,
        query: dict[str, str] | None = None,
        data: Any = None,
    ) -> Any:
        self.calls.append(Call(path, principal, query or {}))
        return await self._service.call(service, method, path, principal=principal, query=query, data=data)

    async def furnish(self) -> None:
        with tenant_group((SUN, STAR)):
            await self._database.write(_furnish)

    async def remember(self, tenant_id: str, days: Iterable[StudentDay]) -> None:
        """The attendance history from now on has these days, besides what it had."""
        rows = [
            {
                "tenant_id": tenant_id,
                "date": date.fromisoformat(day.date),
                "student_id": day.studentId,
                "class_id": day.classId,
                "state": day.state,
                "state_at": 1,
                "version": day.version,
            }
            for day in days
        ]
        if rows:
            with tenant_scope(tenant_id):
                await self._database.write(lambda s: s.execute(insert(AttendanceDay), rows))


def _furnish(session: Session) -> None:
    insert_many(session, [_tenant(tenant_id) for tenant_id in (SUN, STAR)])
    for tenant_id in (SUN, STAR):
        # Unique across kindergartens, as ids of children are: only the users are the same people.
        own, at = {"tenant_id": tenant_id, "created_at": 0}, tenant_id.removeprefix("tenant_")
        provision(
            session,
            classes=[{**own, "id": id_, "name": name, "grade": None} for id_, name in _CLASSES.items()],
            students=[_student(own, at, key, class_id) for key, class_id in _CHILDREN.items()],
            guardians=[
                {
                    **own,
                    "id": f"guardian_{at}_{key}",
                    "user_id": user,
                    "name": name,
                    "phone": phone,
                    "email": email,
                }
                for key, name, _, user, email, phone in _GUARDIANS
            ],
            guardianships=[
                {
                    **own,
                    "student_id": f"student_{at}_{child}",
                    "guardian_id": f"guardian_{at}_{key}",
                    "relation": "家人",
                    "can_pick_up": True,
                    "receives_notices": key not in _UNASKED,
                }
                for key, _, child, *_ in _GUARDIANS
            ],
            staff=[
                {**own, "id": f"staff_{at}_{key}", "user_id": f"user_{key}", "name": name}
                for key, name in _STAFF.items()
            ],
            staff_classes=[
                {
                    "tenant_id": tenant_id,
                    "staff_id": f"staff_{at}_t",
                    "class_id": "class_1",
                    "user_id": "user_t",
                }
            ],
        )


def _student(own: dict[str, Any], at: str, key: str, class_id: str) -> dict[str, Any]:
    return {
        **own,
        "id": f"student_{at}_{key}",
        "name": f"幼儿{key}",
        "gender": None,
        "birth_date": None,
        "class_id": class_id,
        "status": "withdrawn" if key in _GONE else "active",
        "updated_at": 0,
    }


def _tenant(tenant_id: str) -> dict[str, Any]:
    return {
        "id": tenant_id,
        "name": tenant_id,
        "domain": None,
        "status": "active",
        "isolation": "shared",
        "time_zone": "Asia/Shanghai",
        "late_after": "09:00",
        "created_at": 0,
    }


class Reply(NamedTuple):
    status: int
    body: dict[str, Any]

    @property
    def data(self) -> Any:
        return self.body["data"]

    @property
    def problems(self) -> dict[str, str]:
        return {detail["field"]: detail["message"] for detail in self.body["error"]["details"]}


async def ask(
    app: ServiceApp,
    identity: InternalIdentity,
    principal: Principal,
    method: str,
    path: str,
    data: Any = None,
    **headers: str,
) -> Reply:
    """One request to a service, as the gateway would forward it."""
    # httpx and Litestar each have types of their own for the same ASGI interface.
    transport = httpx.ASGITransport(app=cast("Any", app))
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as http:
        response = await http.request(
            method,
            path,
            json=None if data is None else {"data": data},
            headers={
                HEADER: identity.sign(principal),
                **{k.replace("_", "-"): v for k, v in headers.items()},
            },
        )
    return Reply(response.status_code, response.json())
