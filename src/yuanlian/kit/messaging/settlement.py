"""What the table of deliveries is told when handlers have returned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from yuanlian.kit.messaging.delivery import Dead, Done, Outcome, Retry
from yuanlian.kit.messaging.message import Message


class NewDelivery(NamedTuple):
    """A message on its way into the table, with a row for each of ``queues``. ``due_at``: when it was
    published, or may be tried again (epoch ms). ``attempt``, ``reason``: when it has failed already."""

    message: Message
    queues: Sequence[str]
    due_at: int
    attempt: int = 0
    reason: str | None = None


class Finished(NamedTuple):
    queue: str
    sequence: int


class Postponed(NamedTuple):
    queue: str
    sequence: int
    due_at: int
    reason: str


class Buried(NamedTuple):
    queue: str
    sequence: int
    reason: str


class Rejected(NamedTuple):
    """Dead at its first delivery, without ever having had a row."""

    queue: str
    message: Message
    reason: str


@dataclass(slots=True)
class Settlement:
    """All in one transaction. ``finished``, ``postponed`` and ``buried`` have rows; ``retried`` and
    ``rejected`` came from memory."""

    finished: list[Finished] = field(default_factory=list)
    postponed: list[Postponed] = field(default_factory=list)
    buried: list[Buried] = field(default_factory=list)
    retried: list[NewDelivery] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.finished or self.postponed or self.buried or self.retried or self.rejected)

    def of_row(self, queue: str, sequence: int, outcome: Outcome, now_ms: int) -> None:
        match outcome:
            case Done():
                self.finished.append(Finished(queue, sequence))
            case Retry(after_ms, reason):
                self.postponed.append(Postponed(queue, sequence, now_ms + after_ms, reason))
            case Dead(reason):
                self.buried.append(Buried(queue, sequence, reason))

    def of_memory(self, queue: str, message: Message, outcome: Outcome, now_ms: int) -> None:
        match outcome:
            case Done():
                pass
            case Retry(after_ms, reason):
                self.retried.append(NewDelivery(message, (queue,), now_ms + after_ms, 1, reason))
            case Dead(reason):
                self.rejected.append(Rejected(queue, message, reason))

    def extend(self, other: Settlement) -> None:
        self.finished += other.finished
        self.postponed += other.postponed
        self.buried += other.buried
        self.retried += other.retried
        self.rejected += other.rejected

    def next_due(self) -> int | None:
        """When the first of it may be tried again (epoch ms)."""
        due = [one.due_at for one in self.postponed] + [one.due_at for one in self.retried]
        return min(due, default=None)
