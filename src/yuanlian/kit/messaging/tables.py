"""The tables behind the bus. Installation-wide: a message of any tenant passes through the same rows."""

from __future__ import annotations

from sqlalchemy import BigInteger, Index, Integer, String, Text
from sqlalchemy.dialects import mysql
from sqlalchemy.orm import Mapped, mapped_column

from yuanlian.kit.database.schema import Base

# SQLite numbers rows by itself only in a column of exactly the type INTEGER.
Sequence = BigInteger().with_variant(Integer(), "sqlite")
# MySQL's TEXT ends at 64 KiB.
Body = Text(0xFF_FFFF).with_variant(mysql.MEDIUMTEXT(), "mysql")


class OutboxRow(Base):
    """A message that was committed with the business rows it speaks of, and is not yet on the bus.

    ``due_at``: 0, at once; else the instant (epoch ms) its ``delay`` ends. An undelayed message
    carries no time, so that a server whose clock is ahead does not hold its own messages back.
    """

    __tablename__ = "outbox"
    # A secondary index ends in the primary key, here as in InnoDB: this one reads (due_at, sequence).
    __table_args__ = (Index(None, "due_at"), {"sqlite_autoincrement": True})

    sequence: Mapped[int] = mapped_column(Sequence, primary_key=True, autoincrement=True)
    message_id: Mapped[str] = mapped_column(unique=True)
    due_at: Mapped[int]
    body: Mapped[str] = mapped_column(Body)


class RelayLeaseRow(Base):
    """Which relay may empty the outbox. ``beat`` goes up while ``owner`` lives; owner "": nobody."""

    __tablename__ = "relay_leases"

    name: Mapped[str] = mapped_column(primary_key=True)
    owner: Mapped[str]
    beat: Mapped[int]


class BusMessageRow(Base):
    """A message that lies in at least one queue of ``LocalBus``; its body once for all of them."""

    __tablename__ = "bus_messages"

    sequence: Mapped[int] = mapped_column(Sequence, primary_key=True, autoincrement=False)
    message_id: Mapped[str]
    body: Mapped[str] = mapped_column(Body)


class DeliveryRow(Base):
    """A message in one queue of ``LocalBus``, until its handler has returned.

    ``sequence``: of the message. ``attempt``: failed deliveries so far. ``due_at``: when it was
    published, or may be tried again.
    """

    __tablename__ = "bus_deliveries"
    __table_args__ = (Index(None, "queue", "due_at"), {"sqlite_with_rowid": False})

    sequence: Mapped[int] = mapped_column(Sequence, primary_key=True, autoincrement=False)
    queue: Mapped[str] = mapped_column(primary_key=True)
    attempt: Mapped[int] = mapped_column(Integer)
    due_at: Mapped[int]
    last_error: Mapped[str | None] = mapped_column(String(1000))


class DeadLetterRow(Base):
    """A message that a queue has given up on. ``attempts``: how often its handler was called."""

    __tablename__ = "dead_letters"
    __table_args__ = (Index(None, "queue"), {"sqlite_autoincrement": True})

    id: Mapped[int] = mapped_column(Sequence, primary_key=True, autoincrement=True)
    queue: Mapped[str]
    message_id: Mapped[str]
    reason: Mapped[str] = mapped_column(String(1000))
    attempts: Mapped[int] = mapped_column(Integer)
    failed_at: Mapped[int]
    body: Mapped[str] = mapped_column(Body)


class InboxRow(Base):
    """A consumer has taken this message's effect; the row was committed with that effect."""

    __tablename__ = "inbox"
    __table_args__ = (Index(None, "seen_at"), {"sqlite_with_rowid": False})

    consumer: Mapped[str] = mapped_column(primary_key=True)
    message_id: Mapped[str] = mapped_column(primary_key=True)
    seen_at: Mapped[int]
