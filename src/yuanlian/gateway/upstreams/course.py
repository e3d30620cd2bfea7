"""One request's way through the instances of its service, and a first attempt that nobody waits for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from yuanlian.gateway.upstreams.attempts import AttemptError
from yuanlian.gateway.upstreams.cluster import Member
from yuanlian.gateway.upstreams.http_connection import UpstreamConnection
from yuanlian.gateway.upstreams.upstream import ResponseSink, Then, UpstreamRequest
from yuanlian.kit.resilience.retry import IDEMPOTENT_METHODS

if TYPE_CHECKING:
    from yuanlian.gateway.upstreams.http import HttpUpstream


class Course:
    """``until``: when an answer must have begun, on the event loop's clock. ``retries``: how often it may be
    asked again after an instance has had it; ``repeated``: how often it was. ``tried``: by whom it was not
    answered."""

    __slots__ = ("repeated", "request", "retries", "sink", "tried", "until")

    def __init__(self, request: UpstreamRequest, sink: ResponseSink, until: float) -> None:
        self.request = request
        self.sink = sink
        self.until = until
        self.retries = request.retries if request.retries and is_repeatable(request) else 0
        self.repeated = 0
        self.tried: tuple[Member, ...] = ()


class PromptAttempt:
    """Implements ``Underway`` for the first attempt at a request, and ``Answer`` for its connection. What
    fails goes on as a ``Course``, which is waited for: only the good case does without a task."""

    __slots__ = ("_connection", "_done", "_member", "_probe", "_request", "_sink", "_then", "_until",
                 "_upstream")  # fmt: skip

    def __init__(
        self,
        upstream: HttpUpstream,
        request: UpstreamRequest,
        sink: ResponseSink,
        until: float,
        member: Member,
        probe: bool,
        connection: UpstreamConnection,
        then: Then,
    ) -> None:
        self._upstream = upstream
        self._request = request
        self._sink = sink
        self._until = until
        self._member = member
        self._probe = probe
        self._connection = connection
        self._then = then
        self._done = False

    def done(self) -> bool:
        return self._done

    def set_result(self, status: int, /) -> None:
        self._done = True
        self._upstream.cluster.answered(self._member, self._request.route, self._probe, status)
        self._then(None)

    def set_exception(self, error: Exception, /) -> None:
        self._done = True
        assert isinstance(error, AttemptError)  # others are of a body that is still arriving
        course = Course(self._request, self._sink, self._until)
        self._upstream.count_failed(course, self._member, self._probe, error)
        self._then(self._upstream.go_on(course, error))

    def cancel(self) -> None:
        if not self._done:
            self._done = True
            self._connection.abandon(self)
            self._member.end(self._request.route, self._probe, failed=None)
            self._then(None)


def is_repeatable(request: UpstreamRequest) -> bool:
    if not isinstance(request.body, bytes):
        return False
    return request.method in IDEMPOTENT_METHODS or any(
        name == b"idempotency-key" for name, _ in request.headers
    )
