"""An upstream over HTTP: the instances of a service, tried until one answers or no more may be asked.

What may be repeated, DESIGN §5: a request that provably never left, whatever it is; an idempotent one
(by its method or its ``Idempotency-Key``) of which nothing was answered, within the route's retries,
its deadline and the budget of the service.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import structlog

from yuanlian.gateway.upstreams.attempts import AttemptError
from yuanlian.gateway.upstreams.cluster import Cluster, Member
from yuanlian.gateway.upstreams.course import Course, PromptAttempt, is_repeatable
from yuanlian.gateway.upstreams.discovery import InstanceSource
from yuanlian.gateway.upstreams.ejection import EjectionPolicy
from yuanlian.gateway.upstreams.health_checks import HealthChecks, HealthPolicy, Unread, health_request
from yuanlian.gateway.upstreams.http_connection import UpstreamConnection
from yuanlian.gateway.upstreams.pool import PoolLimits
from yuanlian.gateway.upstreams.sending import request_head, stream
from yuanlian.gateway.upstreams.upstream import (
    PromptUpstream,
    ResponseSink,
    Then,
    Underway,
    UpstreamRequest,
)
from yuanlian.kit.errors import ServiceUnavailableError
from yuanlian.kit.resilience.breaker import CircuitBreaker
from yuanlian.kit.resilience.keeping import kept
from yuanlian.kit.resilience.retry import RetryBudget, RetryPolicy

_log = structlog.get_logger("gateway")
_SWEEP_S = 0.05
_LONGEST_PAUSE_S = 0.25
"""Between two looks at deadlines: what was to end sooner ends up to so late, the rest ``_SWEEP_S``."""
_MOST_INSTANCES = 3
"""How many may refuse a connection before a request is given up."""


@dataclass(frozen=True, slots=True)
class HttpOptions:
    """``breaker_*``: per instance and route. ``retry_reserve``: retries at hand in a quiet hour, and the
    most that a burst may take; beyond it, 20 % of the requests. ``health``: None asks nobody."""

    pool: PoolLimits = field(default_factory=PoolLimits)
    ejection: EjectionPolicy = field(default_factory=EjectionPolicy)
    breaker_threshold: int = 5
    breaker_cooldown_s: float = 2.0
    panic: float = 0.5
    health: HealthPolicy | None = field(default_factory=HealthPolicy)
    retry: RetryPolicy = field(default_factory=lambda: RetryPolicy(first_wait_s=0.025, longest_wait_s=0.25))
    retry_ratio: float = 0.2
    retry_reserve: float = 100.0


class Opened(NamedTuple):
    """A connection that has left HTTP, and the instance at its other end."""

    connection: UpstreamConnection
    member: Member


class HttpUpstream(PromptUpstream):
    """Implements ``Upstream`` for the instances that ``source`` names. ``start`` it before the first
    request and ``stop`` it after the last. ``retries``: how many requests were asked again."""

    def __init__(self, name: str, source: InstanceSource, options: HttpOptions | None = None) -> None:
        options = options or HttpOptions()
        self.name = name
        self._source = source
        self._policy = options.retry
        self._budget = RetryBudget(options.retry_ratio, options.retry_reserve)
        self._withdraw = self._budget.withdraw
        self.retries = 0
        self.cluster = Cluster(
            name,
            options.pool,
            options.ejection,
            lambda: CircuitBreaker(options.breaker_threshold, options.breaker_cooldown_s),
            panic=options.panic,
        )
        self._health = options.health
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        await self._source.start(self.cluster.follow)
        self._begin("deadlines", self._sweep)
        if self._health is not None:
            checks = HealthChecks(self.cluster, self._health, self._is_healthy)
            self._begin("health checks", checks.run)

    async def stop(self) -> None:
        try:
            await self._source.stop()
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            self.cluster.stop()

    def begin(self, request: UpstreamRequest, sink: ResponseSink, then: Then) -> Underway | None:
        body, route = request.body, request.route
        member = self.cluster.choose(route)
        if member is None or not isinstance(body, bytes):
            return None
        data = request_head(request, member)
        again = self._withdraw if request.retries and is_repeatable(request) else None
        connection = member.pool.take(repeatable=again is not None)
        if connection is None:
            return None
        self._budget.deposit()
        request.instance = member.name
        until = self._loop.time() + request.timeout_s
        attempt = PromptAttempt(self, request, sink, until, member, member.begin(route), connection, then)
        connection.send(
            data + body if body else data,
            sink,
            until=until,
            stall_s=request.timeout_s,
            bodiless=request.method == "HEAD",
            again=again,
            answer=attempt,
        )
        return attempt

    async def forward(self, request: UpstreamRequest, sink: ResponseSink) -> None:
        self._budget.deposit()
        await self._ask(Course(request, sink, self._loop.time() + request.timeout_s))

    async def go_on(self, course: Course, failure: AttemptError) -> None:
        """After an attempt that has failed and was counted as such."""
        await self._may_go_on(course, failure)
        await self._ask(course)

    async def _ask(self, course: Course) -> None:
        """Asks until there is an answer, or none to be had."""
        cluster, request, route = self.cluster, course.request, course.request.route
        while True:
            member = cluster.choose(route, course.tried)
            if member is None:
                raise ServiceUnavailableError
            request.instance = member.name
            probe = member.begin(route)
            again = self._withdraw if course.repeated < course.retries else None
            try:
                status = await self._attempt(member, request, course.sink, course.until, again)
            except AttemptError as failure:
                self.count_failed(course, member, probe, failure)
                await self._may_go_on(course, failure)
            except BaseException:
                member.end(route, probe, failed=None)
                raise
            else:
                cluster.answered(member, route, probe, status)
                return

    def count_failed(self, course: Course, member: Member, probe: bool, failure: AttemptError) -> None:
        if failure.overload:
            member.end(course.request.route, probe, failed=None)
        else:
            self.cluster.failed(member, course.request.route, probe)
        course.tried += (member,)

    async def _may_go_on(self, course: Course, failure: AttemptError) -> None:
        """Returns when somebody may be asked next, and raises when nobody may."""
        if failure.unsent and len(course.tried) < min(_MOST_INSTANCES, len(self.cluster.members)):
            return
        wait = self._policy.wait_s(course.repeated)
        in_time = self._loop.time() + wait < course.until
        may = course.repeated < course.retries and failure.unanswered and in_time
        if not (may and (failure.paid or self._withdraw())):
            self._report(failure, course.request)
            raise failure.error from None
        course.repeated += 1
        self.retries += 1
        await asyncio.sleep(wait)

    async def open_tunnel(
        self, request: UpstreamRequest, protocol: bytes, sink: ResponseSink
    ) -> Opened | None:
        """Asks an instance to speak ``protocol`` (``websocket``) on a connection of its own. None when it
        answered otherwise; the sink has that answer.

        Raises:
            BadGatewayError, GatewayTimeoutError, ServiceUnavailableError: as ``forward``.
        """
        cluster, route = self.cluster, request.route
        until = self._loop.time() + request.timeout_s
        request.headers = [*request.headers, (b"connection", b"upgrade"), (b"upgrade", protocol)]
        request.lines = b""
        tried: tuple[Member, ...] = ()
        while True:
            member = cluster.choose(route, tried)
            if member is None:
                raise ServiceUnavailableError
            request.instance = member.name
            probe = member.begin(route)
            try:
                connection, status = await self._ask_to_switch(member, request, sink, until)
            except AttemptError as failure:
                if failure.overload:  # ours, not the instance's
                    member.end(route, probe, failed=None)
                else:
                    cluster.failed(member, route, probe)
                tried += (member,)
                if not failure.unsent or len(tried) >= min(_MOST_INSTANCES, len(cluster.members)):
                    self._report(failure, request)
                    raise failure.error from None
            except BaseException:
                member.end(route, probe, failed=None)
                raise
            else:
                cluster.answered(member, route, probe, status)
                return Opened(connection, member) if status == 101 else None

    async def _ask_to_switch(
        self, member: Member, request: UpstreamRequest, sink: ResponseSink, until: float
    ) -> tuple[UpstreamConnection, int]:
        data = request_head(request, member)
        connection = await member.pool.open(until)
        answer: asyncio.Future[int] = self._loop.create_future()
        connection.send(data, sink, until=until, stall_s=request.timeout_s, upgrade=True, answer=answer)
        try:
            return connection, await answer
        except asyncio.CancelledError:
            connection.close()
            raise

    async def _attempt(
        self,
        member: Member,
        request: UpstreamRequest,
        sink: ResponseSink,
        until: float,
        again: Callable[[], bool] | None,
    ) -> int:
        """The status of the answer that was passed on, or raises ``AttemptError``."""
        body = request.body
        whole = type(body) is bytes
        data = request_head(request, member)
        connection = member.pool.take(repeatable=again is not None)
        if connection is None:
            connection = await member.pool.open(until)
        answer: asyncio.Future[int] = self._loop.create_future()
        connection.send(
            data + body if whole else data,  # type: ignore[operator]  # what ``whole`` says
            sink,
            until=until,
            stall_s=request.timeout_s,
            bodiless=request.method == "HEAD",
            more=not whole,
            again=again,
            answer=answer,
        )
        try:
            if isinstance(body, bytes):
                return await answer
            return await stream(body, connection, answer)
        except asyncio.CancelledError:
            connection.abandon(answer)
            raise

    def _begin(self, what: str, work: Callable[[], Awaitable[None]]) -> None:
        self._tasks.add(asyncio.create_task(kept(f"{what} of {self.name}", work)))

    async def _is_healthy(self, member: Member) -> bool | None:
        assert self._health is not None  # else nobody asks
        request = health_request(self._health)
        until = self._loop.time() + self._health.timeout_s
        try:
            status = await self._attempt(member, request, Unread(), until, None)
        except AttemptError as failure:
            return None if failure.overload else False
        return 200 <= status < 300

    def _report(self, failure: AttemptError, request: UpstreamRequest) -> None:
        request_id = next((value for name, value in request.headers if name == b"x-request-id"), b"")
        _log.error(
            "upstream failed",
            service=self.name,
            route=request.route,
            request_id=request_id.decode("latin-1"),
            reason=failure.reason,
            instance=request.instance,
        )

    async def _sweep(self) -> None:
        """One look at all deadlines now and then costs less than a timer for each request. Most looks find
        nothing due for seconds, and then the next may wait: every wake of a process that idles costs."""
        pause = _SWEEP_S
        while True:
            await asyncio.sleep(pause)
            pause = min(max(self.cluster.sweep(), _SWEEP_S), _LONGEST_PAUSE_S)
