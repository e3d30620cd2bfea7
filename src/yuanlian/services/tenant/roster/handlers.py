"""Events in."""

from __future__ import annotations

from yuanlian.contracts.auth import MEMBER_REMOVED
from yuanlian.kit.database.database import Database
from yuanlian.kit.messaging.bus import Subscription
from yuanlian.kit.realtime.hub import Realtime
from yuanlian.services.tenant.roster.service import RosterService


def subscriptions(database: Database, realtime: Realtime) -> list[Subscription]:
    service = RosterService(database, realtime)
    return [Subscription("roster.queue", (MEMBER_REMOVED,), service.see_off)]
