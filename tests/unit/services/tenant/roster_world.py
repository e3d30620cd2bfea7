"""Two kindergartens on a real database, and clients who speak to the tenant service over HTTP.

Each has classes 1 and 2 with children 0, 1 and 2; a mother who can sign in (of child 0 of class 1),
a grandfather who cannot, a teacher of class 1 and a head without a class. The mother and the teacher
are the same users in both, as tokens of one must not open the other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import func, select
from sqlalchemy.orm import Session
from tests.support.databases import open_database

from yuanlian.kit.caching.cache import Cache
from yuanlian.kit.clock import ManualClock
from yuanlian.kit.database.schema import Base
from yuanlian.kit.errors import NotFoundError
from yuanlian.kit.http.app import service_app
from yuanlian.kit.identity.decision import Authorizer
from yuanlian.kit.identity.internal import HEADER, InternalIdentity
from yuanlian.kit.identity.principal import Principal
from yuanlian.kit.realtime.memory import MemoryHub
from yuanlian.kit.tenancy.scope import across_tenants, tenant_group, tenant_scope
from yuanlian.services.tenant.access import Access
from yuanlian.services.tenant.attendance import models as attendance_models
from yuanlian.services.tenant.audience.routes import routes as audience_routes
from yuanlian.services.tenant.audience.service import AudienceService
from yuanlian.services.tenant.imports.routes import routes as import_routes
from yuanlian.services.tenant.imports.service import ImportService
from yuanlian.services.tenant.roster.provisioning import provision
from yuanlian.services.tenant.roster.routes import routes as roster_routes
from yuanlian.services.tenant.tenants.directory import DatabaseTenantDirectory
from yuanlian.services.tenant.tenants.repository import insert_many
from yuanlian.services.tenant.tenants.routes import routes as tenant_routes
from yuanlian.services.tenant.tenants.service import TenantService
from yuanlian.services.tenant.tenants.zones import TimeZones

NOW = int(datetime(2026, 11, 24, 0, 10, tzinfo=UTC).timestamp() * 1000)  # 08:10 in Shanghai
KINDERGARTENS = ("a", "b")
SECRET = b"a secret of the tests, 32 bytes long"
assert attendance_models  # its tables are read when a child is deleted

OWN_CLASS: tuple[str, ...] = ("resource.classId in user.classIds",)
OWN_CHILD: tuple[str, ...] = ("resource.id in user.studentIds",)
OWN_CHILDS_CLASS: tuple[str, ...] = ("resource.id in user.childClassIds",)
NOUNS = ("class", "student", "guardian", "staff", "attendance")
EVERYTHING = frozenset(f"{noun}.{action}" for noun in NOUNS for action in ("read", "write")) | {
    "announcement.write"
}


def head(tenant: str) -> Principal:
    return Principal("user_head", tenant, ("principal",), EVERYTHING)


def teacher(tenant: str) -> Principal:
    """Everything, under the condition that it is about the own class."""
    return Principal("user_teacher", tenant, ("teacher",), EVERYTHING, dict.fromkeys(EVERYTHING, OWN_CLASS))


def mother(tenant: str) -> Principal:
    conditions = {
        "student.read": OWN_CHILD,
        "attendance.read": OWN_CHILD,
        "class.read": OWN_CHILDS_CLASS,
    }
    return Principal("user_mother", tenant, ("guardian",), frozenset(conditions), conditions)


def operator() -> Principal:
    return Principal(
        "user_admin", "platform", ("platform_admin",), frozenset({"tenant.read", "tenant.write"})
    )


@dataclass(frozen=True)
class Answer:
    status: int
    message: str
    data: Any
    details: dict[str, str]

    @property
    def ids(self) -> list[str]:
        return [item["id"] for item in self.data["items"]]


class Client:
    """Somebody who uses the service."""

    def __init__(self, http: httpx.AsyncClient, token: str | None) -> None:
        self._http = http
        self._headers = {HEADER: token} if token is not None else {}

    async def __call__(
        self,
        method: str,
        path: str,
        data: Any = None,
        *,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
        files: Any = None,
    ) -> Answer:
        response = await self._http.request(
            method,
            path if path.startswith("/internal/") else f"/api/tenant{path}",
            json={"data": data} if data is not None else None,
            content=body,
            files=files,
            headers=self._headers | (headers or {}),
        )
        answer = response.json()
        assert answer["code"] == response.status_code
        details = answer.get("error", {}).get("details", [])
        return Answer(
            response.status_code,
            answer["message"],
            answer.get("data"),
            {detail["field"]: detail["message"] for detail in details},
        )


class AuthAnswers:
    """The auth service's answers about users, per kindergarten."""

    def __init__(self) -> None:
        self.users: dict[tuple[str, str], dict[str, Any]] = {}

    def register(self, tenant: str, user_id: str, name: str, phone: str | None = None) -> None:
        user = {"id": user_id, "name": name, "phone": phone, "email": None, "roles": ["guardian"]}
        self.users[tenant, user_id] = user

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
        assert (service, method) == ("auth-service", "GET")
        user = self.users.get((principal.tenant_id, path.removeprefix("/api/auth/users/")))
        if user is None:
            raise NotFoundError
        return user


class Socket:
    """An open connection."""

    def __init__(self, tenant_id: str, user_id: str) -> None:
        self.tenant_id = tenant_id
        self.user_id = user_id
        self.closed: list[int] = []

    def deliver(self, frame: bytes, cursor: str) -> None:
        raise AssertionError("nothing is published here")

    def close(self, code: int) -> None:
        self.closed.append(code)

    def resync(self) -> None:
        raise AssertionError("nothing is lost here")


class World:
    def __init__(self, folder: Path) -> None:
        self.clock = ManualClock(NOW)
        self.database = open_database(folder / "test.db")
        self.database.migrate(Base.metadata.create_all)
        self.hub = MemoryHub()
        self.auth = AuthAnswers()
        self.directory = DatabaseTenantDirectory(self.database, self.clock)
        self.zones = TimeZones(self.database, Cache())
        self._identity = InternalIdentity(SECRET, self.clock)
        access = Access(Authorizer(self.clock))
        handlers = [
            *tenant_routes(TenantService(self.database, self.directory, self.clock, self.zones)),
            *roster_routes(self.database, access, self.auth, self.clock, self.hub),
            *import_routes(ImportService(self.database, access, self.clock, self.hub)),
            *audience_routes(AudienceService(self.database, access)),
        ]
        self.app = service_app("tenant-service", handlers, self._identity)
        transport = httpx.ASGITransport(self.app)  # type: ignore[arg-type] # Litestar types its scopes
        self.http = httpx.AsyncClient(transport=transport, base_url="http://tenant")

    def as_(self, principal: Principal | None) -> Client:
        return Client(self.http, self._identity.sign(principal) if principal else None)

    def connect(self, principal: Principal) -> Socket:
        socket = Socket(principal.tenant_id, principal.user_id)
        self.hub.attach(socket, ["user"])
        return socket

    async def write(self, tenant: str, work: Callable[[Session], Any]) -> Any:
        with tenant_scope(tenant):
            return await self.database.write(work)

    async def count(self, model: type[Base], **where: Any) -> int:
        statement = select(func.count()).select_from(model).filter_by(**where)
        with across_tenants("test"):
            return await self.database.read(lambda s: s.execute(statement).scalar_one())

    async def close(self) -> None:
        await self.http.aclose()
        await self.database.close()


def _fill(session: Session) -> None:
    insert_many(session, [_tenant(name) for name in (*KINDERGARTENS, "platform")])
    for tenant in KINDERGARTENS:
        own = {"tenant_id": tenant, "created_at": 0}
        classes = [f"class_{tenant}{number}" for number in (1, 2)]
        provision(
            session,
            classes=[{**own, "id": id_, "name": f"{id_[-1]}班", "grade": None} for id_ in classes],
            students=[
                {
                    **own,
                    "id": f"student_{class_id[-2:]}{child}",
                    "name": f"幼儿{child}",
                    "gender": "female",
                    "birth_date": date(2022, 3, 1 + child),
                    "class_id": class_id,
                    "status": "active",
                    "updated_at": 0,
                }
                for class_id in classes
                for child in range(3)
            ],
            guardians=[
                _guardian(own, "mother", "user_mother", "13800000001"),
                _guardian(own, "grandpa", None, "13800000002"),
            ],
            guardianships=[
                {
                    **own,
                    "student_id": f"student_{tenant}10",
                    "guardian_id": f"guardian_{tenant}_{who}",
                    "relation": who,
                    "can_pick_up": True,
                    "receives_notices": who == "mother",
                }
                for who in ("mother", "grandpa")
            ],
            staff=[
                {**own, "id": f"staff_{tenant}_{who}", "user_id": f"user_{who}", "name": who}
                for who in ("head", "teacher")
            ],
            staff_classes=[
                {
                    "tenant_id": tenant,
                    "staff_id": f"staff_{tenant}_teacher",
                    "class_id": classes[0],
                    "user_id": "user_teacher",
                }
            ],
        )


def _guardian(own: dict[str, Any], who: str, user_id: str | None, phone: str) -> dict[str, Any]:
    id_ = f"guardian_{own['tenant_id']}_{who}"
    return {**own, "id": id_, "user_id": user_id, "name": who, "phone": phone, "email": None}


def _tenant(tenant_id: str) -> dict[str, Any]:
    return {
        "id": tenant_id,
        "name": f"Kindergarten {tenant_id}",
        "domain": f"{tenant_id}.example.com",
        "status": "active",
        "isolation": "shared",
        "time_zone": "Asia/Shanghai",
        "late_after": "09:00",
        "created_at": 0,
    }


def run(folder: Path, scenario: Callable[[World], Coroutine[Any, Any, None]]) -> None:
    """Plays a scenario in a fresh world."""

    async def play() -> None:
        world = World(folder)
        try:
            with tenant_group(KINDERGARTENS):
                await world.database.write(_fill)
            await scenario(world)
        finally:
            await world.close()

    asyncio.run(play())
