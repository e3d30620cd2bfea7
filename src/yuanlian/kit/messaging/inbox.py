"""Exactly once in effect: the inbox row and the effect of a message are committed together.

The bus delivers at least once. A consumer whose effect is in the same database, and has no key of its own
that says for good what it comes from (decision record 0020), takes it through ``once``; a redelivered message
is then recognised and left out. DESIGN §6 invariant 3.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from yuanlian.kit.clock import SystemClock
from yuanlian.kit.database.database import Database
from yuanlian.kit.messaging import repository
from yuanlian.kit.messaging.message import Message
from yuanlian.kit.tenancy.scope import tenant_group

Work = Callable[[Session, Sequence[Message]], None]

PRUNED_AT_ONCE = 5_000

_clock = SystemClock()


async def once(database: Database, consumer: str, messages: Sequence[Message], work: Work) -> None:
    """Runs ``work(session, fresh)`` in one write transaction with the inbox rows of ``fresh``.

    ``fresh`` are the messages, in order, that ``consumer`` has not taken before; of several with one
    id, the first. Without any, ``work`` is not called. The scope of tenants is that of ``messages``.
    When ``work`` raises, nothing of either is kept and the error is the caller's.
    """
    unique: dict[str, Message] = {}
    for message in messages:
        unique.setdefault(message.id, message)
    if not unique:
        return

    with tenant_group({message.tenantId for message in unique.values()}):
        try:
            await database.write(lambda session: _take_all(session, consumer, unique, work), repeatable=True)
        except _SeenError:
            await database.write(
                lambda session: _take_fresh(session, consumer, unique, work), repeatable=True
            )


class _SeenError(Exception):
    """Some of the messages were taken before."""


def _take_all(session: Session, consumer: str, messages: dict[str, Message], work: Work) -> None:
    """Nearly always all are fresh; the key of the inbox tells without a question to it."""
    try:
        repository.insert_seen(session, consumer, list(messages), _clock.now_ms())
    except IntegrityError as error:
        raise _SeenError from error
    work(session, list(messages.values()))


def _take_fresh(session: Session, consumer: str, messages: dict[str, Message], work: Work) -> None:
    seen = repository.select_seen(session, consumer, list(messages))
    fresh = [message for message in messages.values() if message.id not in seen]
    if fresh:
        repository.insert_seen(session, consumer, [message.id for message in fresh], _clock.now_ms())
        work(session, fresh)


def prune(session: Session, older_than_ms: int) -> int:
    """Forgets messages taken before the instant ``older_than_ms`` (epoch ms), some thousands at a time so
    that nobody waits for long; returns how many, 0 when there are no more.

    Keep them for longer than any redelivery or replay of a dead letter can take.
    """
    return repository.delete_seen_before(session, older_than_ms, PRUNED_AT_ONCE)
