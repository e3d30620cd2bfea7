"""All SQL of the messaging tables. Statements are built once; every one handles many rows at a time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec
from sqlalchemy import BigInteger, String, bindparam, delete, exists, func, insert, select, update
from sqlalchemy.orm import Session

from yuanlian.kit.database.bulk import insert_rows
from yuanlian.kit.database.schema import table_of
from yuanlian.kit.messaging.message import Message
from yuanlian.kit.messaging.settlement import Buried, Finished, NewDelivery, Postponed, Rejected, Settlement
from yuanlian.kit.messaging.tables import BusMessageRow, DeadLetterRow, DeliveryRow, InboxRow, OutboxRow

_OUTBOX = table_of(OutboxRow)
_MESSAGES = table_of(BusMessageRow)
_DELIVERIES = table_of(DeliveryRow)
_DEAD = table_of(DeadLetterRow)
_INBOX = table_of(InboxRow)

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
    due_at: int


_select_outbox = (
    select(*(_OUTBOX.c[name] for name in OutboxEntry._fields))
    .where(_OUTBOX.c.due_at <= bindparam("now"), _OUTBOX.c.sequence > bindparam("after"))
    .order_by(_OUTBOX.c.due_at, _OUTBOX.c.sequence)
    .limit(bindparam("limit"))
)
_delete_outbox = delete(_OUTBOX).where(_OUTBOX.c.sequence.between(bindparam("first"), bindparam("last")))


def insert_outbox(session: Session, messages: Sequence[Message]) -> None:
    rows = [
        (
            None,  # numbered by the database
            message.id,
            message.timestamp + message.delay if message.delay else AT_ONCE,
            encode(message),
        )
        for message in messages
    ]
    insert_rows(session, _OUTBOX, rows)


def next_outbox(
    session: Session, settled: Sequence[int], now_ms: int, limit: int, after: int = 0
) -> list[OutboxEntry]:
    """Deletes what is settled and returns what is due next, oldest first, those without a delay before the
    others; only what is numbered above ``after``."""
    delete_outbox(session, settled)
    found = session.connection().execute(_select_outbox, {"now": now_ms, "after": after, "limit": limit})
    return [OutboxEntry(*row) for row in found]


def delete_outbox(session: Session, sequences: Sequence[int]) -> None:
    if sequences:
        session.connection().execute(_delete_outbox, _runs(sequences))


def _runs(numbers: Iterable[int]) -> list[dict[str, int]]:
    """The numbers as ranges without a gap: they were given one after the other, so there are few."""
    runs: list[dict[str, int]] = []
    for number in sorted(numbers):
        if runs and runs[-1]["last"] >= number - 1:
            runs[-1]["last"] = number
        else:
            runs.append({"first": number, "last": number})
    return runs


# inbox

_select_seen = select(_INBOX.c.message_id).where(
    _INBOX.c.consumer == bindparam("consumer"),
    _INBOX.c.message_id.in_(bindparam("ids", expanding=True)),
)
_delete_seen = delete(_INBOX).where(_INBOX.c.seen_at < bindparam("before"))
_after_a_slice = (
    select(_INBOX.c.seen_at)
    .where(_INBOX.c.seen_at < bindparam("before"))
    .order_by(_INBOX.c.seen_at)
    .limit(1)
    .offset(bindparam("slice"))
)


def select_seen(session: Session, consumer: str, ids: Sequence[str]) -> set[str]:
    found = session.connection().execute(_select_seen, {"consumer": consumer, "ids": ids})
    return {row[0] for row in found}


def insert_seen(session: Session, consumer: str, ids: Sequence[str], now_ms: int) -> None:
    insert_rows(session, _INBOX, [(consumer, id_, now_ms) for id_ in ids])


def delete_seen_before(session: Session, before_ms: int, limit: int) -> int:
    """The oldest ``limit`` of them, and those seen in the same millisecond as the last one."""
    connection = session.connection()
    following = connection.execute(_after_a_slice, {"before": before_ms, "slice": limit}).scalar()
    before = before_ms if following is None else following + 1
    return connection.execute(_delete_seen, {"before": before}).rowcount


# deliveries of LocalBus


class StoredDelivery(NamedTuple):
    sequence: int
    attempt: int
    body: str


class DueDeliveries(NamedTuple):
    """``next_due``: when the first one that is not due yet will be. ``last``: the highest number in
    the table; every message committed before has this or a lower one."""

    rows: list[StoredDelivery]
    next_due: int | None
    last: int


_this_delivery = (
    _DELIVERIES.c.sequence == bindparam("of"),
    _DELIVERIES.c.queue == bindparam("in_queue"),
)
_with_body = _DELIVERIES.join(_MESSAGES, _MESSAGES.c.sequence == _DELIVERIES.c.sequence)

_last_message = select(func.max(_MESSAGES.c.sequence))
_select_deliveries = (
    select(_DELIVERIES.c.sequence, _DELIVERIES.c.attempt, _MESSAGES.c.body)
    .select_from(_with_body)
    .where(_DELIVERIES.c.queue == bindparam("queue"), _DELIVERIES.c.due_at <= bindparam("now"))
    .order_by(_DELIVERIES.c.due_at, _DELIVERIES.c.sequence)
    .limit(bindparam("limit"))
)
_next_due = select(func.min(_DELIVERIES.c.due_at)).where(
    _DELIVERIES.c.queue == bindparam("queue"), _DELIVERIES.c.due_at > bindparam("now")
)
_delete_deliveries = delete(_DELIVERIES).where(*_this_delivery)
_delete_delivered_messages = delete(_MESSAGES).where(
    _MESSAGES.c.sequence.in_(bindparam("sequences", expanding=True)),
    ~exists().where(_DELIVERIES.c.sequence == _MESSAGES.c.sequence),
)
_postpone = (
    update(_DELIVERIES)
    .where(*_this_delivery)
    .values(attempt=_DELIVERIES.c.attempt + 1, due_at=bindparam("at"), last_error=bindparam("reason"))
)
_bury_delivery = insert(_DEAD).from_select(
    ["queue", "message_id", "body", "attempts", "reason", "failed_at"],
    select(
        _DELIVERIES.c.queue,
        _MESSAGES.c.message_id,
        _MESSAGES.c.body,
        _DELIVERIES.c.attempt + 1,
        bindparam("reason", type_=String),
        bindparam("now", type_=BigInteger),
    )
    .select_from(_with_body)
    .where(*_this_delivery),
)


def insert_deliveries(session: Session, new: Sequence[NewDelivery], above: int) -> int:
    """Puts each message into its queues. The messages are numbered upwards without a gap.

    Returns the first number; it is above ``above`` and above every number in the table.
    """
    if not new:
        return above + 1
    first = max(session.connection().execute(_last_message).scalar() or 0, above) + 1
    numbered = list(enumerate(new, first))
    messages = [(sequence, one.message.id, encode(one.message)) for sequence, one in numbered]
    deliveries = [
        (sequence, queue, one.attempt, one.due_at, one.reason and one.reason[:REASON_LENGTH])
        for sequence, one in numbered
        for queue in one.queues
    ]
    insert_rows(session, _MESSAGES, messages)
    insert_rows(session, _DELIVERIES, deliveries)
    return first


def due_deliveries(session: Session, queue: str, now_ms: int, limit: int) -> DueDeliveries:
    """What may be delivered at ``now_ms``, longest due first."""
    connection = session.connection()
    found = connection.execute(_select_deliveries, {"queue": queue, "now": now_ms, "limit": limit})
    return DueDeliveries(
        rows=[StoredDelivery(*row) for row in found],
        next_due=connection.execute(_next_due, {"queue": queue, "now": now_ms}).scalar(),
        last=connection.execute(_last_message).scalar() or 0,
    )


def settle_deliveries(session: Session, settlement: Settlement, above: int, now_ms: int) -> int:
    """A message that no queue holds any more goes with its last delivery.

    Returns the number of the first of ``settlement.retried``, as ``insert_deliveries`` does.
    """
    _bury(session, settlement.buried, now_ms)
    _reject(session, settlement.rejected, now_ms)
    _put_off(session, settlement.postponed)
    _remove(session, [*settlement.finished, *settlement.buried])
    return insert_deliveries(session, settlement.retried, above)


def _bury(session: Session, buried: Sequence[Buried], now_ms: int) -> None:
    if buried:
        rows = [
            {"of": b.sequence, "in_queue": b.queue, "reason": b.reason[:REASON_LENGTH], "now": now_ms}
            for b in buried
        ]
        session.connection().execute(_bury_delivery, rows)


def _reject(session: Session, rejected: Sequence[Rejected], now_ms: int) -> None:
    _insert_dead(session, [(r.queue, r.message.id, r.reason, 1, now_ms, encode(r.message)) for r in rejected])


def _put_off(session: Session, postponed: Sequence[Postponed]) -> None:
    if postponed:
        rows = [
            {"of": p.sequence, "in_queue": p.queue, "at": p.due_at, "reason": p.reason[:REASON_LENGTH]}
            for p in postponed
        ]
        session.connection().execute(_postpone, rows)


def _remove(session: Session, gone: Sequence[Finished | Buried]) -> None:
    if gone:
        connection = session.connection()
        connection.execute(_delete_deliveries, [{"of": g.sequence, "in_queue": g.queue} for g in gone])
        connection.execute(_delete_delivered_messages, {"sequences": list({g.sequence for g in gone})})


# dead letters

OUTBOX = "outbox"
"""The queue that a dead letter names when it never reached the bus."""


class DeadLetter(NamedTuple):
    """``body``: the message as JSON. ``attempts``: how often its handler was called."""

    id: int
    queue: str
    message_id: str
    reason: str
    attempts: int
    failed_at: int
    body: str


_dead_columns = [_DEAD.c[name] for name in DeadLetter._fields]
_delete_dead = delete(_DEAD).where(_DEAD.c.id.in_(bindparam("ids", expanding=True)))


def bury_outbox(session: Session, entries: Sequence[OutboxEntry], reason: str, now_ms: int) -> None:
    _insert_dead(session, [(OUTBOX, e.message_id, reason, 0, now_ms, e.body) for e in entries])
    delete_outbox(session, [entry.sequence for entry in entries])


def _insert_dead(session: Session, rows: Sequence[tuple[str, str, str, int, int, str]]) -> None:
    """Rows of queue, message id, reason, attempts, failed at, body."""
    insert_rows(
        session,
        _DEAD,
        [(None, queue, id_, why[:REASON_LENGTH], *rest) for queue, id_, why, *rest in rows],
    )


def select_dead(
    session: Session, limit: int, before: int | None = None, queue: str | None = None
) -> list[DeadLetter]:
    """Newest first; ``before``: only those with a smaller id."""
    statement = select(*_dead_columns).order_by(_DEAD.c.id.desc()).limit(limit)
    if before is not None:
        statement = statement.where(_DEAD.c.id < before)
    if queue is not None:
        statement = statement.where(_DEAD.c.queue == queue)
    return [DeadLetter(*row) for row in session.connection().execute(statement)]


def select_dead_by_id(session: Session, ids: Sequence[int]) -> list[DeadLetter]:
    statement = select(*_dead_columns).where(_DEAD.c.id.in_(ids)).order_by(_DEAD.c.id)
    return [DeadLetter(*row) for row in session.connection().execute(statement)]


def select_dead_between(session: Session, queue: str, after: int, last: int, limit: int) -> list[DeadLetter]:
    """Oldest first, as they are replayed."""
    statement = (
        select(*_dead_columns)
        .where(_DEAD.c.queue == queue, _DEAD.c.id > after, _DEAD.c.id <= last)
        .order_by(_DEAD.c.id)
        .limit(limit)
    )
    return [DeadLetter(*row) for row in session.connection().execute(statement)]


def delete_dead(session: Session, ids: Sequence[int]) -> int:
    return session.connection().execute(_delete_dead, {"ids": ids}).rowcount
