"""Of several relays on one outbox, one publishes at a time."""

from __future__ import annotations

import asyncio

from sqlalchemy.orm import Session

from yuanlian.kit.database.database import Database
from yuanlian.kit.ids import new_id
from yuanlian.kit.messaging import lease_repository as repository

TTL_S = 3.0


class RelayLease:
    """Whoever holds it counts up a number in the database; the others watch. One that has not moved for
    ``ttl_s`` seconds of the watcher's own clock belongs to a process that is gone, and is taken over.
    So no two clocks are ever compared.

    It saves work and is no lock: a holder that was stopped for longer than ``ttl_s`` publishes what it
    had at hand when it goes on, although another has published the same. Consumers tell by the id.
    """

    def __init__(self, database: Database, *, ttl_s: float = TTL_S, owner: str | None = None) -> None:
        self.owner = owner or new_id("relay")
        self._database = database
        self._ttl_s = ttl_s
        self._held = False
        self._ask_at = 0.0
        self._seen: repository.Lease | None = None
        self._seen_at = 0.0

    async def held(self) -> bool:
        """Asks the database three times per ``ttl_s``, and remembers the answer meanwhile."""
        now = asyncio.get_running_loop().time()
        if now < self._ask_at:
            return self._held
        self._held = False  # unless the database says so again
        self._held = await self._database.write(lambda session: self._claim(session, now))
        self._ask_at = now + self._ttl_s / 3
        return self._held

    @property
    def fresh_s(self) -> float:
        """For so many seconds ``held`` says the same without asking."""
        return max(self._ask_at - asyncio.get_running_loop().time(), 0.0)

    async def release(self) -> None:
        """The next may have it at once."""
        if self._held:
            self._held, self._ask_at = False, 0.0
            await self._database.write(lambda session: repository.release_lease(session, self.owner))

    def _claim(self, session: Session, now: float) -> bool:
        lease = repository.select_lease(session)
        if lease is None:
            repository.insert_lease(session, self.owner)
            return True
        if lease.owner in (self.owner, ""):
            return repository.move_lease(session, lease, self.owner)
        if lease != self._seen:
            self._seen, self._seen_at = lease, now
            return False
        return now - self._seen_at > self._ttl_s and repository.move_lease(session, lease, self.owner)
