"""What becomes of the roster when somebody leaves the kindergarten."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import msgspec
from sqlalchemy.orm import Session

from yuanlian.contracts.auth import MemberRemoved
from yuanlian.kit.database.database import Database
from yuanlian.kit.messaging import inbox
from yuanlian.kit.messaging.message import Message
from yuanlian.kit.realtime.hub import Realtime
from yuanlian.services.tenant.roster import repository
from yuanlian.services.tenant.sockets import reauthorise

CONSUMER = "roster"


class Departure(NamedTuple):
    """``at``: epoch ms."""

    tenant_id: str
    user_id: str
    at: int


class RosterService:
    def __init__(self, database: Database, realtime: Realtime) -> None:
        self._database = database
        self._realtime = realtime

    async def see_off(self, messages: Sequence[Message]) -> None:
        """Members who were removed: no member of staff any more, with no classes; as guardians they
        stay on the roster, without an account. Their connections end.

        A staff record made after the removal is left alone: that is somebody who came back.
        """
        await inbox.once(self._database, CONSUMER, messages, _see_off)
        for tenant_id, user_id, _ in _departures(messages):
            await reauthorise(self._realtime, tenant_id, [user_id])


def _see_off(session: Session, messages: Sequence[Message]) -> None:
    for tenant_id, user_id, at in _departures(messages):
        repository.remove_staff(session, tenant_id, user_id, at)
        repository.unlink_guardian(session, tenant_id, user_id)


def _departures(messages: Iterable[Message]) -> Iterator[Departure]:
    for message in messages:
        user_id = msgspec.convert(message.data, MemberRemoved).userId
        yield Departure(message.tenantId, user_id, message.timestamp)
