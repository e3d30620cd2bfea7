"""Counting a request against its route's limit, and saying so. CONTRACT §3, §4."""

from __future__ import annotations

from yuanlian.gateway.http import Request
from yuanlian.gateway.routes import Route
from yuanlian.kit.errors import RateLimitedError
from yuanlian.kit.resilience.limiter import Decision


def limit_key(route: Route, request: Request, network: str) -> str:
    """What a request counts for. ``network``: the client's address as it is counted; by it goes a
    caller who is not known by user or tenant."""
    if route.limit_by == "user" and request.user_id:
        return f"{route.path} user {request.user_id}"
    if route.limit_by == "tenant" and request.tenant_id:
        return f"{route.path} tenant {request.tenant_id}"
    return f"{route.path} ip {network}"


def limit_lines(decision: Decision) -> bytes:
    """The ``RateLimit-*`` header lines for the answer, whatever it will be."""
    return b"ratelimit-limit: %d\r\nratelimit-remaining: %d\r\nratelimit-reset: %d\r\n" % (
        decision.limit,
        decision.remaining,
        decision.reset,
    )


class LimitReachedError(RateLimitedError):
    """``lines``: the ``RateLimit-*`` of its answer, in place of any others."""

    def __init__(self, decision: Decision) -> None:
        super().__init__(headers=[("retry-after", str(decision.retry_after))])
        self.lines = limit_lines(decision)


def refusal(decision: Decision) -> LimitReachedError:
    """When to come back, and how much there is."""
    return LimitReachedError(decision)
