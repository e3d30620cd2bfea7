"""What the messaging tests share: messages, the effects that consumers leave, and what lies in a table."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from sqlalchemy import Column, MetaData, String, Table, insert, select
from sqlalchemy.orm import Session

from yuanlian.kit.database.database import Database
from yuanlian.kit.messaging.message import Message
from yuanlian.kit.messaging.tables import OutboxRow

Run = Callable[[Callable[[], Awaitable[None]]], None]

EFFECTS = Table("effects", MetaData(), Column("message_id", String(64)))


def messages(count: int, tenant: str = "tenant_a", **fields: Any) -> list[Message]:
    return [Message.new("thing.happened", tenant, {"n": n}, **fields) for n in range(count)]


def ids(of: Sequence[Message]) -> list[str]:
    return [message.id for message in of]


def leave_effect(session: Session, fresh: Sequence[Message]) -> None:
    session.execute(insert(EFFECTS), [{"message_id": message.id} for message in fresh])


async def effects(database: Database) -> list[str]:
    return await database.read(lambda session: [*session.scalars(select(EFFECTS.c.message_id))])


async def in_outbox(database: Database) -> list[str]:
    return await database.read(
        lambda session: [*session.scalars(select(OutboxRow.message_id).order_by(OutboxRow.sequence))]
    )


async def until(condition: Callable[[], Awaitable[bool]], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not await condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        await asyncio.sleep(0.002)
