"""Puts the demo kindergartens into an empty database."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from sqlalchemy.orm import Session

from yuanlian.contracts.tenant import PLATFORM
from yuanlian.kit.clock import SystemClock
from yuanlian.kit.database.database import Database
from yuanlian.kit.tenancy.directory import DEFAULT_ZONE
from yuanlian.kit.tenancy.scope import tenant_group
from yuanlian.runtime.demo.accounts import NAMED, PASSWORD, SUNSHINE, kindergartens
from yuanlian.runtime.demo.people import DemoGuardian, DemoKindergarten
from yuanlian.services.auth.provisioning import Account, Seat, hash_password
from yuanlian.services.auth.provisioning import provision as provision_accounts
from yuanlian.services.tenant.roster.provisioning import provision as provision_roster
from yuanlian.services.tenant.tenants import repository as tenants

Progress = Callable[[int, int], None]
"""``progress(done, total)``, in children."""


async def load_demo(database: Database) -> bool:
    """Everything in one transaction, unless it is there already; returns whether it was loaded."""
    if await database.read(_is_there):
        return False
    with shown_progress() as progress:
        return await _load(database, progress)


def _is_there(session: Session) -> bool:
    return tenants.get(session, SUNSHINE) is not None


async def _load(database: Database, progress: Progress) -> bool:
    gardens = kindergartens()
    # One hash serves them all: 700 Argon2 hashes of one published password would protect nothing.
    password_hash = await asyncio.to_thread(hash_password, PASSWORD)
    total = sum(len(garden.children) for garden in gardens)

    def load(session: Session) -> bool:
        if _is_there(session):
            return False  # another process was faster
        now = SystemClock().now_ms()
        tenants.insert_many(session, [_tenant(PLATFORM, "园联平台", None, now)])
        provision_accounts(session, list(_named_accounts(password_hash)))
        done = 0
        for garden in gardens:
            tenants.insert_many(session, [_tenant(garden.id, garden.name, garden.domain, now)])
            _provision_garden(session, garden, password_hash, now)
            done += len(garden.children)
            progress(done, total)
        return True

    with tenant_group([PLATFORM, *(garden.id for garden in gardens)]):
        return await database.write(load)


def _tenant(tenant_id: str, name: str, domain: str | None, now: int) -> dict[str, Any]:
    return {
        "id": tenant_id,
        "name": name,
        "domain": domain,
        "status": "active",
        "isolation": "shared",
        "time_zone": DEFAULT_ZONE,
        "late_after": "09:00",
        "created_at": now,
    }


def _named_accounts(password_hash: str) -> Iterator[Account]:
    for person in NAMED:
        seats = [Seat(tenant, roles) for tenant, roles in person.roles.items()]
        yield Account(
            person.user_id, person.username, password_hash, person.name, seats, person.phone, person.email
        )


def _provision_garden(session: Session, garden: DemoKindergarten, password_hash: str, now: int) -> None:
    named = {person.user_id for person in NAMED}
    accounts = [
        Account(user_id, username, password_hash, name, [Seat(garden.id, [role])], phone)
        for user_id, username, name, role, phone in _people(garden)
        if user_id not in named
    ]
    provision_accounts(session, accounts)
    own = {"tenant_id": garden.id}
    stamped = {**own, "created_at": now}
    guardians = {g.id: g for child in garden.children for g in child.guardians}
    provision_roster(
        session,
        classes=[{**stamped, "id": c.id, "name": c.name, "grade": c.grade} for c in garden.classes],
        students=[
            {
                **stamped,
                "id": child.id,
                "name": child.name,
                "gender": child.gender,
                "birth_date": child.birth_date,
                "class_id": child.class_id,
                "status": "active",
                "updated_at": now,
            }
            for child in garden.children
        ],
        guardians=[{**stamped, **_guardian(g)} for g in guardians.values()],
        guardianships=[
            {
                **stamped,
                "student_id": child.id,
                "guardian_id": guardian.id,
                "relation": guardian.relation,
                "can_pick_up": True,
                "receives_notices": True,
            }
            for child in garden.children
            for guardian in child.guardians
        ],
        staff=[
            {**stamped, "id": f"staff_{t.username}", "user_id": t.user_id, "name": t.name}
            for t in garden.teachers
        ]
        + [
            {**stamped, "id": f"staff_{p.username}", "user_id": p.user_id, "name": p.name}
            for p in NAMED
            if {"principal", "health_officer"}.intersection(p.roles.get(garden.id, ()))
        ],
        staff_classes=[
            {**own, "staff_id": f"staff_{t.username}", "class_id": t.class_id, "user_id": t.user_id}
            for t in garden.teachers
        ],
    )


def _guardian(guardian: DemoGuardian) -> dict[str, Any]:
    return {
        "id": guardian.id,
        "user_id": guardian.user_id,
        "name": guardian.name,
        "phone": guardian.phone,
        "email": guardian.email,
    }


def _people(garden: DemoKindergarten) -> Iterator[tuple[str, str, str, str, str | None]]:
    """Everybody who can sign in: user id, username, name, role, phone."""
    for teacher in garden.teachers:
        yield teacher.user_id, teacher.username, teacher.name, "teacher", None
    for child in garden.children:
        for guardian in child.guardians:
            yield guardian.user_id, guardian.username, guardian.name, "guardian", guardian.phone


@contextlib.contextmanager
def shown_progress() -> Iterator[Progress]:
    """A progress bar on standard error, when that is a terminal."""
    from rich.console import Console
    from rich.progress import Progress as Bar

    with Bar(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("正在准备演示数据 demo data", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
