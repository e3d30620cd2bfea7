"""An upstream over HTTP: the instances of a service, tried until one answers or no more may be asked.

What may be repeated, DESIGN §5: a request that provably never left, whatever it is; an idempotent one
(by its method or its ``Idempotency-Key``) of which nothing was answered, within the route's retries,
its deadline and the budget of the service.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import structlog

from yuanlian.gateway.upstreams.attempts import AttemptError
from yuanlian.gateway.upstreams.cluster import Cluster, Member
from yuanlian.gateway.upstreams.discovery import InstanceSource
from yuanlian.gateway.upstreams.ejection import EjectionPolicy
from yuanlian.gateway.upstreams.health_checks import HealthChecks, HealthPolicy, Unread, health_request
from yuanlian.gateway.upstreams.http_connection import UpstreamConnection
from yuanlian.gateway.upstreams.pool import PoolLimits
from yuanlian.gateway.upstreams.upstream import BodyStream, ResponseSink, UpstreamRequest
from yuanlian.kit.errors import BadGatewayError, ServiceUnavailableError
from yuanlian.kit.resilience.breaker import CircuitBreaker
from yuanlian.kit.resilience.retry import IDEMPOTENT_METHODS, RetryBudget, RetryPolicy

_log = structlog.get_logger("gateway")
_SWEEP_S = 0.05
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


class HttpUpstream:
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
        self._begin(self._sweep())
        if self._health is not None:
            checks = HealthChecks(self.cluster, self._health, self._is_healthy)
            self._begin(checks.run())

    async def stop(self) -> None:
        await self._source.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.cluster.stop()

    async def forward(self, request: UpstreamRequest, sink: ResponseSink) -> None:
        self._budget.deposit()
        cluster, route = self.cluster, request.route
        until = self._loop.time() + request.timeout_s
        retries = request.retries if request.retries and _repeatable(request) else 0
        repeated = 0
        tried: tuple[Member, ...] = ()
        while True:
            member = cluster.choose(route, tried)
            if member is None:
                raise ServiceUnavailableError
            request.instance = member.name
            probe = member.begin(route)
            again = self._withdraw if repeated < retries else None
            try:
                status = await self._attempt(member, request, sink, until, again)
            except AttemptError as failure:
                if failure.overload:
                    member.end(route, probe, failed=None)
                else:
                    cluster.failed(member, route, probe)
                tried += (member,)
                if failure.unsent and len(tried) < min(_MOST_INSTANCES, len(cluster.members)):
                    continue
                wait = self._policy.wait_s(repeated)
                may = repeated < retries and failure.unanswered and self._loop.time() + wait < until
                if not (may and (failure.paid or self._withdraw())):
                    self._report(failure, request)
                    raise failure.error from None
                repeated += 1
                self.retries += 1
                await asyncio.sleep(wait)
            except BaseException:
                member.end(route, probe, failed=None)
                raise
            else:
                cluster.answered(member, route, probe, status)
                return

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
        answer = connection.send(data, sink, until=until, stall_s=request.timeout_s, upgrade=True)
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
        answer = connection.send(
            data + body if whole else data,  # type: ignore[operator]  # what ``whole`` says
            sink,
            until=until,
            stall_s=request.timeout_s,
            bodiless=request.method == "HEAD",
            more=not whole,
            again=again,
        )
        try:
            if isinstance(body, bytes):
                return await answer
            return await _stream(body, connection, answer)
        except asyncio.CancelledError:
            connection.abandon(answer)
            raise

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        task.add_done_callback(self._ended)
        self._tasks.add(task)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.critical("upstream keeper ended", service=self.name, exc_info=error)

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
        """One look at all deadlines now and then costs less than a timer for each request."""
        while True:
            await asyncio.sleep(_SWEEP_S)
            self.cluster.sweep()


def request_head(request: UpstreamRequest, member: Member) -> bytes:
    """The bytes before the body. The client's ``Host`` goes on as it is.

    Raises:
        BadGatewayError: a line break in it; the parser lets none through, nobody else may either.
    """
    query = b"?" + request.query if request.query else b""
    first = b"%b %b%b HTTP/1.1" % (request.method.encode(), request.raw_path, query)
    lines = [first, *map(b": ".join, request.headers)]
    text = b"".join(lines)
    if b"\n" in text or b"\r" in text:  # finding none is several times faster than counting ours
        raise BadGatewayError
    lines.append(b"")
    head = b"\r\n".join(lines)
    if b"\nhost: " not in head:
        host, port = member.address
        head += b"host: %b:%d\r\n" % (f"[{host}]".encode() if ":" in host else host.encode(), port)
    body = request.body
    if not isinstance(body, bytes) and body.length is None:
        head += b"transfer-encoding: chunked\r\n"
    return head + b"\r\n"


def _repeatable(request: UpstreamRequest) -> bool:
    if not isinstance(request.body, bytes):
        return False
    return request.method in IDEMPOTENT_METHODS or any(
        name == b"idempotency-key" for name, _ in request.headers
    )


async def _stream(body: BodyStream, connection: UpstreamConnection, answer: asyncio.Future[int]) -> int:
    """Sends the body as it comes while the answer may come already; an answer that is whole ends both."""

    def sent(sending: asyncio.Task[None]) -> None:
        error = None if sending.cancelled() else sending.exception()
        if isinstance(error, Exception):
            connection.fail(error)

    sending = asyncio.create_task(_send(body, connection))
    sending.add_done_callback(sent)
    try:
        return await answer
    finally:
        sending.cancel()
        await asyncio.wait({sending})


async def _send(body: BodyStream, connection: UpstreamConnection) -> None:
    chunked = body.length is None
    while True:
        connection.wait_for_client()
        piece = await body.read()
        if not piece:
            break
        await connection.send_more(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
    if chunked:
        await connection.send_more(b"0\r\n\r\n")
    connection.sent()
