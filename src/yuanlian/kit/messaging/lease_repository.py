"""The SQL of the relay's lease."""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import bindparam, insert, select, update
from sqlalchemy.orm import Session

from yuanlian.kit.database.schema import table_of
from yuanlian.kit.messaging.tables import RelayLeaseRow

_LEASES = table_of(RelayLeaseRow)


class Lease(NamedTuple):
    owner: str
    beat: int


_OF_OUTBOX = "outbox"
_select_lease = select(_LEASES.c.owner, _LEASES.c.beat).where(_LEASES.c.name == _OF_OUTBOX)
_move_lease = (
    update(_LEASES)
    .where(
        _LEASES.c.name == _OF_OUTBOX,
        _LEASES.c.owner == bindparam("former"),
        _LEASES.c.beat == bindparam("seen"),
    )
    .values(owner=bindparam("new"), beat=_LEASES.c.beat + 1)
)
_release_lease = (
    update(_LEASES)
    .where(_LEASES.c.name == _OF_OUTBOX, _LEASES.c.owner == bindparam("former"))
    .values(owner="")
)


def select_lease(session: Session) -> Lease | None:
    row = session.connection().execute(_select_lease).first()
    return Lease(*row) if row is not None else None


def insert_lease(session: Session, owner: str) -> None:
    """Raises:
    IntegrityError: another was quicker.
    """
    session.connection().execute(insert(_LEASES), {"name": _OF_OUTBOX, "owner": owner, "beat": 1})


def move_lease(session: Session, seen: Lease, owner: str) -> bool:
    """Whether it was still as ``seen``, and is ``owner``'s now."""
    values = {"former": seen.owner, "seen": seen.beat, "new": owner}
    return session.connection().execute(_move_lease, values).rowcount == 1


def release_lease(session: Session, owner: str) -> None:
    session.connection().execute(_release_lease, {"former": owner})
