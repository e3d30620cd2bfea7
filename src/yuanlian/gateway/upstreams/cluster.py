"""The instances of one service and what is known about each."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable, Collection, Iterable
from time import monotonic
from typing import NamedTuple

import structlog

from yuanlian.gateway.upstreams.attempts import PASSING
from yuanlian.gateway.upstreams.balancer import least_of_two
from yuanlian.gateway.upstreams.ejection import EjectionPolicy, Ejector, Record
from yuanlian.gateway.upstreams.pool import Pool, PoolLimits
from yuanlian.kit.resilience.breaker import CircuitBreaker, State

_log = structlog.get_logger("gateway")


class Address(NamedTuple):
    host: str
    port: int


class Member:
    """One instance, called ``name`` in logs. ``outstanding``: requests under way. ``failures``: so far.
    ``healthy``: what its health checks say, True without any. ``breakers``: by route, only where
    something has failed."""

    __slots__ = ("address", "breakers", "failures", "healthy", "name", "outstanding", "pool", "record")

    def __init__(self, address: Address, pool: Pool) -> None:
        self.address = address
        self.name = f"{address.host}:{address.port}"
        self.pool = pool
        self.outstanding = 0
        self.failures = 0
        self.healthy = True
        self.record = Record()
        self.breakers: dict[str, CircuitBreaker] = {}

    def admits(self, route: str) -> bool:
        breaker = self.breakers.get(route)
        return breaker is None or breaker.admits

    def begin(self, route: str) -> bool:
        """A request starts; must be followed by ``end``. True when it probes an open breaker."""
        self.outstanding += 1
        breaker = self.breakers.get(route)
        return breaker is not None and breaker.enter()

    def end(self, route: str, probe: bool, *, failed: bool | None) -> None:
        """``failed``: None when the client gave it up."""
        self.outstanding -= 1
        breaker = self.breakers.get(route)
        if breaker is not None:
            breaker.leave(probe, failed=failed)
            if failed is False and breaker.state is State.CLOSED:
                del self.breakers[route]


class Cluster:
    """Chooses, and learns from what came of it.

    ``usable``: whom it chooses from. ``panic``: when fewer than this share of the instances is in good
    standing, all are used: a health check that fails everywhere is more likely wrong than right.
    """

    def __init__(
        self,
        name: str,
        limits: PoolLimits,
        ejection: EjectionPolicy,
        new_breaker: Callable[[], CircuitBreaker],
        *,
        panic: float = 0.5,
        draw: Callable[[], float] = random.random,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._name = name
        self._limits = limits
        self._ejector = Ejector(ejection)
        self._new_breaker = new_breaker
        self._panic = panic
        self._draw = draw
        self._clock = clock
        self.usable: tuple[Member, ...] = ()
        self._leaving: set[Member] = set()
        self.members: dict[Address, Member] = {}
        self.members_changed = asyncio.Event()

    def follow(self, addresses: Iterable[Address]) -> None:
        """These are the instances now. Those that stay keep their connections and their standing; those
        that left finish what they have. None at all is not believed: a registry that has lost
        everything would take the service with it, and whoever is really gone refuses connections."""
        wanted = dict.fromkeys(addresses)
        if not wanted and self.members:
            _log.warning("no instances known, keeping the last ones", service=self._name)
            return
        for address in [address for address in self.members if address not in wanted]:
            member = self.members.pop(address)
            member.pool.close()
            self._leaving.add(member)
        for address in wanted:
            if address not in self.members:
                self.members[address] = Member(address, Pool(address.host, address.port, self._limits))
        self.members_changed.set()
        self._judge()

    def choose(self, route: str, avoid: Collection[Member] = ()) -> Member | None:
        """An instance for a request of ``route``, if it can be one that is not to be avoided; None when
        there is none to ask."""
        usable = self.usable
        if not usable:
            return None
        if not avoid:
            member = least_of_two(usable, self._draw)
            if not member.breakers or member.admits(route):
                return member
        admitting = [member for member in usable if member.admits(route)]
        fresh = [member for member in admitting if member not in avoid]
        candidates = fresh or admitting
        return least_of_two(candidates, self._draw) if candidates else None

    # --- learning -----------------------------------------------------------------------------

    def answered(self, member: Member, route: str, probe: bool, status: int) -> None:
        """500 and its like speak against the instance, 502 to 504 also against asking it on this route:
        what only one request cannot get must not close a route for all."""
        if status < 500:
            member.record.failures = 0
        elif status in PASSING:
            self.failed(member, route, probe)
            return
        else:
            self._erred(member)
        member.end(route, probe, failed=False)

    def failed(self, member: Member, route: str, probe: bool) -> None:
        """It refused the connection, broke it, or gave no answer in time."""
        member.failures += 1
        if route not in member.breakers:
            member.breakers[route] = self._new_breaker()
        member.end(route, probe, failed=True)
        self._erred(member)

    def _erred(self, member: Member) -> None:
        records = [other.record for other in self.members.values()]
        now = self._clock()
        if self._ejector.failed(member.record, records, now):
            for_s = round(member.record.until - now, 1)
            _log.warning("instance ejected", service=self._name, instance=member.name, for_s=for_s)
            self._judge()

    def found(self, member: Member, *, healthy: bool) -> None:
        """A health check has come to a verdict."""
        if member.healthy is not healthy:
            _log.warning("instance health", service=self._name, healthy=healthy, instance=member.name)
            member.healthy = healthy
            self._judge()

    def sweep(self) -> float:
        """Once in a while: ends ejections and what has waited too long. After how many seconds there is
        something to end, as far as is known now."""
        now = self._clock()
        records = [member.record for member in self.members.values()]
        if self._ejector.release(records, now):
            self._judge()
        due = [record.until for record in records if record.ejected]
        due += [member.pool.check_deadlines(now) for member in (*self.members.values(), *self._leaving)]
        if self._leaving:
            self._leaving = {member for member in self._leaving if member.pool.in_use}
        return min(due, default=math.inf) - now

    def stop(self) -> None:
        """Whatever is still under way ends now."""
        for member in (*self.members.values(), *self._leaving):
            member.pool.abort()

    def _judge(self) -> None:
        everyone = tuple(self.members.values())
        good = tuple(member for member in everyone if member.healthy and not member.record.ejected)
        self.usable = good if len(good) >= self._panic * len(everyone) else everyone
