"""The transactional outbox: what happened and the telling of it are committed together."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sqlalchemy.orm import Session

from yuanlian.kit.messaging import repository
from yuanlian.kit.messaging.message import Message

Wake = Callable[[], None]

# Replaced, never changed: ``add`` reads it in database threads.
_wakes: tuple[Wake, ...] = ()


def add(session: Session, messages: Sequence[Message]) -> None:
    """Puts messages into the caller's transaction; the relay publishes them after its commit.

    Never commits. ``message.delay`` is waited for here. A message id that is already in the outbox
    fails the transaction (``sqlalchemy.exc.IntegrityError``).
    """
    if not messages:
        return
    repository.insert_outbox(session, messages)
    if any(message.delay == 0 for message in messages):
        for wake in _wakes:
            wake()


def listen(wake: Wake) -> Callable[[], None]:
    """Calls ``wake`` in the adding thread, before its commit, whenever this process has added a message
    that is not delayed. Returns what ends it.
    """
    global _wakes
    _wakes = (*_wakes, wake)

    def end() -> None:
        global _wakes
        _wakes = tuple(other for other in _wakes if other is not wake)

    return end
