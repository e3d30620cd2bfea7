"""All SQL of the messaging tables. Statements are built once; every one handles many rows at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec
from sqlalchemy import Table, bindparam, delete, insert, select
from sqlalchemy.orm import Session

from yuanlian.kit.messaging.message import Message
from yuanlian.kit.messaging.tables import DeadLetterRow, DeliveryRow, InboxRow, OutboxRow

_OUTBOX: Table = OutboxRow.__table__  # type: ignore[assignment]  # declared as FromClause
_DELIVERIES: Table = DeliveryRow.__table__  # type: ignore[assignment]  # the same
_DEAD: Table = DeadLetterRow.__table__  # type: ignore[assignment]  # the same
_INBOX: Table = InboxRow.__table__  # type: ignore[assignment]  # the same

AT_ONCE = 0
REASON_LENGTH = 1000

_encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder(Message).decode


def encode(message: Message) -> str:
    return _encode(message).decode()


# outbox


class OutboxEntry(NamedTuple):
    sequence: int
    message_id: str
    body: str


_insert_outbox = insert(_OUTBOX)
_select_outbox = (
    select(_OUTBOX.c.sequence, _OUTBOX.c.message_id, _OUTBOX.c.body)
    .where(_OUTBOX.c.due_at <= bindparam("now"))
    .order_by(_OUTBOX.c.due_at, _OUTBOX.c.sequence)
    .limit(bindparam("limit"))
)
_delete_outbox = delete(_OUTBOX).where(_OUTBOX.c.sequence.in_(bindparam("sequences", expanding=True)))


def insert_outbox(session: Session, messages: Sequence[Message]) -> None:
    rows = [
        {
            "message_id": message.id,
            "due_at": message.timestamp + message.delay if message.delay else AT_ONCE,
            "body": encode(message),
        }
        for message in messages
    ]
    session.connection().execute(_insert_outbox, rows)


def next_outbox(session: Session, published: Sequence[int], now_ms: int, limit: int) -> list[OutboxEntry]:
    """Deletes what has been published and returns what is due next, oldest first."""
    connection = session.connection()
    if published:
        connection.execute(_delete_outbox, {"sequences": published})
    found = connection.execute(_select_outbox, {"now": now_ms, "limit": limit})
    return [OutboxEntry(*row) for row in found]


# inbox

_select_seen = select(_INBOX.c.message_id).where(
    _INBOX.c.consumer == bindparam("consumer"),
    _INBOX.c.message_id.in_(bindparam("ids", expanding=True)),
)
_insert_seen = insert(_INBOX)
_delete_seen = delete(_INBOX).where(_INBOX.c.seen_at < bindparam("before"))


def select_seen(session: Session, consumer: str, ids: Sequence[str]) -> set[str]:
    found = session.connection().execute(_select_seen, {"consumer": consumer, "ids": ids})
    return {row[0] for row in found}


def insert_seen(session: Session, consumer: str, ids: Sequence[str], now_ms: int) -> None:
    rows = [{"consumer": consumer, "message_id": id_, "seen_at": now_ms} for id_ in ids]
    session.connection().execute(_insert_seen, rows)


def delete_seen_before(session: Session, before_ms: int) -> int:
    return session.connection().execute(_delete_seen, {"before": before_ms}).rowcount
