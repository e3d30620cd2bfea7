"""Making one day's rows what the attendance history says."""

from __future__ import annotations

from datetime import date

import msgspec
from sqlalchemy.orm import Session

from yuanlian.contracts import tenant
from yuanlian.contracts.attendance import StudentDay
from yuanlian.kit.database.database import Database
from yuanlian.kit.envelope import Page
from yuanlian.kit.http.client import ServiceClient
from yuanlian.kit.identity.principal import Principal
from yuanlian.services.analytics.counting import remembered, row
from yuanlian.services.analytics.repository import AnalyticsRepository, DayState, StudentDate
from yuanlian.services.analytics.schemas import Rebuilt

HISTORY_PAGE = 200
Days = dict[StudentDate, DayState]


async def rebuild_day(database: Database, client: ServiceClient, principal: Principal, day: date) -> Rebuilt:
    """One short transaction, and none when the day is right already.

    An event that arrives meanwhile stays: rows that became newer than the history that was read are
    kept, and only rows that were there before the reading began can be removed.
    """
    before = await database.read(lambda s: AnalyticsRepository(s).day(day))
    history = await _history(client, principal, day)
    if before == history:
        return Rebuilt(len(history), 0)
    changed = await database.write(lambda s: _replace(s, principal.tenant_id, day, before, history))
    return Rebuilt(len(history), changed)


def _replace(session: Session, tenant_id: str, day: date, before: Days, history: Days) -> int:
    repository = AnalyticsRepository(session)
    now = repository.day(day)
    gone = {
        key: state.version for key, state in now.items() if key not in history and before.get(key) == state
    }
    wrong = {
        key: state
        for key, state in history.items()
        if key not in now or (now[key] != state and now[key].version <= state.version)
    }
    repository.remove(gone)
    repository.store([row(tenant_id, key, state) for key, state in wrong.items()])
    return len(gone) + len(wrong)


async def _history(client: ServiceClient, principal: Principal, day: date) -> Days:
    found: Days = {}
    query = {"from": day.isoformat(), "to": day.isoformat(), "limit": str(HISTORY_PAGE)}
    while True:
        answer = await client.call(tenant.SERVICE, "GET", tenant.DAYS_PATH, principal=principal, query=query)
        page = msgspec.convert(answer, Page[StudentDay])
        found.update(map(remembered, page.items))
        if page.nextCursor is None:
            return found
        query = {**query, "cursor": page.nextCursor}
