"""A notification service beside the real tenant service, on one database, with a folder for e-mail."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import func, select
from tests.support.databases import open_database
from tests.support.tenant_side import STAR, SUN, Reply, TenantSide, ask

from yuanlian.contracts.attendance import ATTENDANCE_UPDATE, AttendanceUpdated, Recipient
from yuanlian.kit.clock import ManualClock
from yuanlian.kit.database.schema import Base
from yuanlian.kit.identity.internal import InternalIdentity
from yuanlian.kit.identity.principal import Principal
from yuanlian.kit.messaging.bus import Subscription
from yuanlian.kit.messaging.message import Message
from yuanlian.kit.messaging.repository import decode
from yuanlian.kit.messaging.tables import OutboxRow
from yuanlian.kit.realtime.memory import MemoryHub
from yuanlian.kit.tenancy.scope import across_tenants
from yuanlian.services.notification.eml import EmlMailer
from yuanlian.services.notification.mailer import Mailer
from yuanlian.services.notification.models import Notification, Receipt
from yuanlian.services.notification.module import module

__all__ = [
    "FATHER", "GRANNY", "MOTHER", "NOW", "STAR", "SUN", "UNCLE", "Shown", "World", "event", "person", "play",
]  # fmt: skip

NOW = 1_795_478_400_000  # 2026-11-24 08:00 in Shanghai

MOTHER = Recipient("guardian_m", "李妈妈", "母亲", userId="user_m", email="m@example.org")
FATHER = Recipient("guardian_f", "李爸爸", "父亲", userId="user_f")
GRANNY = Recipient("guardian_g", "李奶奶", "祖母", email="g@example.org")
UNCLE = Recipient("guardian_u", "李叔叔", "叔叔")


class Screen:
    """Somebody's open app: what it was shown, live."""

    def __init__(self, tenant_id: str, user_id: str, shown: list[Shown]) -> None:
        self.tenant_id = tenant_id
        self.user_id = user_id
        self._shown = shown

    def deliver(self, frame: bytes, cursor: str) -> None:
        self._shown.append(Shown(self.tenant_id, self.user_id, msgspec.json.decode(frame)))

    def close(self, code: int) -> None:
        raise AssertionError("nobody is shown the door here")

    def resync(self) -> None:
        raise AssertionError("nothing is lost here")


class Shown(NamedTuple):
    tenant_id: str
    user_id: str
    message: dict[str, Any]


class World:
    def __init__(self, folder: Path, mailer: Mailer | None = None) -> None:
        self.clock = ManualClock(NOW)
        self.database = open_database(folder / "test.db")
        self.database.migrate(Base.metadata.create_all)
        self.identity = InternalIdentity(b"k" * 32, self.clock)
        self.tenant = TenantSide(self.database, self.clock, self.identity)
        self.hub = MemoryHub(msgspec.json.encode)
        self.shown: list[Shown] = []
        for tenant_id in (SUN, STAR):
            for user_id in ("user_m", "user_f", "user_t", "user_p", "user_other"):
                self.hub.attach(Screen(tenant_id, user_id, self.shown), [f"user:{user_id}"])
        self.mail = folder / "mail"
        self.module = module(
            database=self.database,
            clock=self.clock,
            identity=self.identity,
            client=self.tenant,
            realtime=self.hub,
            mailer=mailer or EmlMailer(self.mail),
        )

    def subscription(self, queue: str) -> Subscription:
        return next(s for s in self.module.subscriptions if s.queue == queue)

    async def attendance(self, *messages: Message) -> None:
        await self.subscription("notification.queue").handler(messages)

    async def send(self, *messages: Message) -> None:
        await self.subscription("email.queue").handler(messages)

    async def ask(self, who: Principal, method: str, path: str, data: Any = None, **headers: str) -> Reply:
        return await ask(self.module.app, self.identity, who, method, path, data, **headers)

    async def inbox(self, who: Principal, query: str = "") -> list[dict[str, Any]]:
        reply = await self.ask(who, "GET", f"/api/notifications/{query}")
        assert reply.status == 200, reply.body
        items: list[dict[str, Any]] = reply.data["items"]
        return items

    async def queued(self) -> list[Message]:
        """What the outbox holds."""
        return await self.database.read(
            lambda s: [decode(row.body) for row in s.scalars(select(OutboxRow).order_by(OutboxRow.sequence))]
        )

    async def count(self, table: type[Base] = Notification) -> int:
        with across_tenants("test"):
            return await self.database.read(lambda s: s.scalar(select(func.count()).select_from(table)) or 0)

    async def receipts(self) -> set[tuple[str, str, str]]:
        """(recipient, channel, status)"""
        query = select(Notification.name, Receipt.channel, Receipt.status).join(
            Receipt, Receipt.notification_id == Notification.id
        )
        with across_tenants("test"):
            return await self.database.read(lambda s: {(n, c, st) for n, c, st in s.execute(query)})


def play(folder: Path, scenario: Callable[[World], Coroutine[Any, Any, None]], **options: Any) -> None:
    async def run() -> None:
        world = World(folder, **options)
        try:
            await world.tenant.furnish()
            await scenario(world)
        finally:
            await world.database.close()

    asyncio.run(run())


def person(user_id: str, tenant_id: str = SUN, *permissions: str, **options: Any) -> Principal:
    granted = frozenset(permissions or ("notification.read",))
    return Principal(user_id=user_id, tenant_id=tenant_id, permissions=granted, **options)


def event(
    id_: str = "event_1",
    tenant_id: str = SUN,
    recipients: Sequence[Recipient] = (MOTHER,),
    **changes: Any,
) -> Message:
    facts: dict[str, Any] = {
        "id": id_,
        "studentId": "student_1",
        "studentName": "小明",
        "classId": "class_1",
        "className": "小一班",
        "type": "check_in",
        "dayState": "present",
        "dayVersion": 1,
        "date": "2026-11-24",
        "occurredAt": NOW,
        "receivedAt": NOW,
        "recipients": tuple(recipients),
    } | changes
    data = msgspec.to_builtins(AttendanceUpdated(**facts))
    return Message.new(ATTENDANCE_UPDATE, tenant_id, data, id_=f"msg_{tenant_id}_{id_}")
