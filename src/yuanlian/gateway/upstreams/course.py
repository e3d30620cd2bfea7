"""One request's way through the instances of its service, and a first attempt that nobody waits for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

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


class PromptAttempt(msgspec.Struct, eq=False):
    """Implements ``Underway`` for the first attempt at a request, and ``Answer`` for its connection. What
    fails goes on as a ``Course``, which is waited for: only the good case does without a task."""

    upstream: HttpUpstream
    request: UpstreamRequest
    sink: ResponseSink
    until: float
    member: Member
    probe: bool
    connection: UpstreamConnection
    then: Then
    ended: bool = False

    def done(self) -> bool:
        return self.ended

    def set_result(self, status: int, /) -> None:
        self.ended = True
        self.upstream.cluster.answered(self.member, self.request.route, self.probe, status)
        self.then(None)

    def set_exception(self, error: Exception, /) -> None:
        self.ended = True
        assert isinstance(error, AttemptError)  # others are of a body that is still arriving
        course = Course(self.request, self.sink, self.until)
        self.upstream.count_failed(course, self.member, self.probe, error)
        self.then(self.upstream.go_on(course, error))

    def cancel(self) -> None:
        if not self.ended:
            self.ended = True
            self.connection.abandon(self)
            self.member.end(self.request.route, self.probe, failed=None)
            self.then(None)


def is_repeatable(request: UpstreamRequest) -> bool:
    if not isinstance(request.body, bytes):
        return False
    return request.method in IDEMPOTENT_METHODS or any(
        name == b"idempotency-key" for name, _ in request.headers
    )
