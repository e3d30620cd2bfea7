"""Counting a request against its route's limit, and saying so. CONTRACT §3, §4."""

from __future__ import annotations

from yuanlian.gateway.http import Request
from yuanlian.gateway.routes import Route
from yuanlian.kit.errors import RateLimitedError
from yuanlian.kit.resilience.limiter import RateLimiter


async def limit(limiter: RateLimiter, route: Route, request: Request, network: str) -> bytes:
    """The ``RateLimit-*`` header lines for the answer, empty on a route without limit. ``network``:
    the client's address as it is counted.

    Raises:
        RateLimitedError: with the same headers and ``Retry-After``.
    """
    if route.rate_limit is None:
        return b""
    decision = await limiter.hit(_key(route, request, network), *route.rate_limit)
    if not decision.allowed:
        raise RateLimitedError(
            headers=[
                ("retry-after", str(decision.retry_after)),
                ("ratelimit-limit", str(decision.limit)),
                ("ratelimit-remaining", str(decision.remaining)),
                ("ratelimit-reset", str(decision.reset)),
            ]
        )
    return b"ratelimit-limit: %d\r\nratelimit-remaining: %d\r\nratelimit-reset: %d\r\n" % (
        decision.limit,
        decision.remaining,
        decision.reset,
    )


def _key(route: Route, request: Request, network: str) -> str:
    """A caller who is not known by user or tenant is counted by address."""
    if route.limit_by == "user" and request.user_id:
        return f"{route.path} user {request.user_id}"
    if route.limit_by == "tenant" and request.tenant_id:
        return f"{route.path} tenant {request.tenant_id}"
    return f"{route.path} ip {network}"
