"""Active health checks: asking each instance whether it can take requests, before a client does.

Source: HAProxy's ``rise``, ``fall`` and ``fastinter``. Which instances are used follows in ``cluster``.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from functools import partial

from yuanlian.gateway.upstreams.cluster import Cluster, Member
from yuanlian.gateway.upstreams.upstream import UpstreamRequest
from yuanlian.kit.resilience.keeping import kept


@dataclass(frozen=True, slots=True)
class HealthPolicy:
    """``fall`` checks in a row that fail make an instance unhealthy, ``rise`` that succeed make it
    healthy again; a new one counts as healthy. A check succeeds with 2xx within ``timeout_s``. While
    the verdict is in doubt the next one follows after ``doubt_s``: who refuses connections is found
    within ``interval_s`` and out two checks later, long before an ejection lets it back in."""

    path: str = "/healthz"
    interval_s: float = 1.0
    doubt_s: float = 0.25
    timeout_s: float = 1.0
    rise: int = 2
    fall: int = 3


class Standing:
    """What the checks of one instance have shown so far."""

    __slots__ = ("_against", "healthy")

    def __init__(self, *, healthy: bool = True) -> None:
        self.healthy = healthy
        self._against = 0

    @property
    def doubtful(self) -> bool:
        """Whether the last check spoke against the verdict."""
        return self._against > 0

    def note(self, policy: HealthPolicy, *, succeeded: bool) -> bool:
        """Counts one check; the verdict."""
        self._against = 0 if succeeded is self.healthy else self._against + 1
        if self._against >= (policy.fall if self.healthy else policy.rise):
            self.healthy = not self.healthy
            self._against = 0
        return self.healthy


class HealthChecks:
    """``ask``: sends a request to one instance; True and False as it answered, None when it could not
    be asked for a reason of our own."""

    def __init__(
        self, cluster: Cluster, policy: HealthPolicy, ask: Callable[[Member], Awaitable[bool | None]]
    ) -> None:
        self._cluster = cluster
        self._policy = policy
        self._ask = ask
        self._keepers: dict[Member, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Until cancelled. Each instance has checks of its own, so that one that hangs holds up none."""
        try:
            while True:
                self._cluster.members_changed.clear()
                self._follow()
                await self._cluster.members_changed.wait()
        finally:
            for keeper in self._keepers.values():
                keeper.cancel()
            await asyncio.gather(*self._keepers.values(), return_exceptions=True)
            self._keepers.clear()

    def _follow(self) -> None:
        members = set(self._cluster.members.values())
        for member in [member for member in self._keepers if member not in members]:
            self._keepers.pop(member).cancel()
        for member in members - self._keepers.keys():
            asking = kept(f"health checks of {member.name}", partial(self._keep_asking, member))
            self._keepers[member] = asyncio.create_task(asking)

    async def _keep_asking(self, member: Member) -> None:
        """The first check comes at a random time, so that many gateways that start together do not ask
        together."""
        standing, policy = Standing(healthy=member.healthy), self._policy
        await asyncio.sleep(policy.interval_s * random.random())  # noqa: S311 - no secret
        while True:
            succeeded = await self._ask(member)
            if succeeded is not None:
                self._cluster.found(member, healthy=standing.note(policy, succeeded=succeeded))
            await asyncio.sleep(
                min(policy.doubt_s, policy.interval_s) if standing.doubtful else policy.interval_s
            )


def health_request(policy: HealthPolicy) -> UpstreamRequest:
    return UpstreamRequest(
        method="GET",
        path=policy.path,
        raw_path=policy.path.encode(),
        query=b"",
        headers=[(b"user-agent", b"yuanlian-gateway")],
        body=b"",
        client=("127.0.0.1", 0),
        scheme="http",
        timeout_s=policy.timeout_s,
    )


class Unread:
    """A ``ResponseSink`` for answers of which only the status counts."""

    def __init__(self) -> None:
        self.started = False
        self.finished = False
        self.ready = True

    def start(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        del status, headers  # the caller gets the status from the connection
        self.started = True

    def push(self, chunk: bytes) -> None:
        pass

    async def drained(self) -> None:
        pass

    async def write(self, chunk: bytes) -> None:
        pass

    def finish(self, chunk: bytes = b"") -> None:
        del chunk
        self.finished = True
