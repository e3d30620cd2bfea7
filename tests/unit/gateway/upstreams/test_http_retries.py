"""What is asked again, where, and what never is."""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import suppress

import pytest
from tests.support.instances import Instance, Pieces, Sent, asking, instance, listening, ok, upstream_to
from tests.support.websocket import on_both_loops

from yuanlian.gateway.upstreams.http import HttpOptions
from yuanlian.gateway.upstreams.http_connection import UpstreamConnection
from yuanlian.gateway.upstreams.pool import is_quiet
from yuanlian.gateway.upstreams.sink import Collector
from yuanlian.gateway.upstreams.upstream import UpstreamRequest
from yuanlian.kit.errors import BadGatewayError, ServiceUnavailableError
from yuanlian.kit.resilience.retry import RetryPolicy

_SOON = HttpOptions(health=None, retry=RetryPolicy(first_wait_s=0.001, longest_wait_s=0.001))
_KEY = (b"idempotency-key", b"k1")


def _quiet(connection: UpstreamConnection) -> bool:
    """Asked anew."""
    return is_quiet(connection)


def _ask(request: UpstreamRequest, *answers: bytes) -> tuple[Collector, int]:
    """An instance that gives these answers in turn; what the client got and how often it was asked."""

    async def scenario() -> tuple[Collector, int]:
        sink = Collector()
        async with (
            instance(lambda _, n: answers[min(n, len(answers)) - 1]) as one,
            upstream_to([one.url], _SOON) as upstream,
        ):
            with suppress(BadGatewayError):
                await upstream.forward(request, sink)
            return sink, len(one.requests)

    return asyncio.run(scenario())


@pytest.mark.parametrize(
    "request_",
    [
        asking("GET", retries=2),
        asking("DELETE", retries=2),
        asking("PUT", body=b"whole", retries=2),
        asking("POST", body=b"whole", headers=[_KEY], retries=2),
    ],
)
@pytest.mark.parametrize(
    "failure",
    [b"", ok(b"later", status=b"503 Service Unavailable"), ok(status=b"502 Bad Gateway"),
     b"HTTP/1.1 504 Gateway Timeout\r\ncontent-length: 100000\r\n\r\nnot all of it"],
)  # fmt: skip
def test_what_may_be_repeated_is_repeated_and_only_the_last_answer_counts(
    request_: UpstreamRequest, failure: bytes
) -> None:
    sink, asked = _ask(request_, failure, failure, ok(b"at last"))
    assert (sink.status, sink.body(), asked) == (200, b"at last", 3)


@pytest.mark.parametrize(
    ("request_", "failure"),
    [
        (asking("POST", body=b"x", retries=2), b""),
        (asking("PATCH", retries=2), ok(b"no", status=b"503 Service Unavailable")),
        (asking("PUT", body=Pieces(b"x", length=1), retries=2), b""),
        (asking("GET", retries=0), b""),
        (asking("GET", retries=2), b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\nconnection: close\r\n\r\nhalf"),
        (asking("GET", retries=2), b"HTTP/1.1 200 O"),
        (asking("GET", retries=2), ok(b"no", status=b"500 Internal Server Error")),
        (asking("GET", retries=2), ok(b"no", status=b"429 Too Many Requests")),
    ],
)
def test_what_may_have_had_its_effect_or_its_answer_is_not(request_: UpstreamRequest, failure: bytes) -> None:
    sink, asked = _ask(request_, failure + (b"connection: close" if failure.endswith(b" O") else b""))
    assert asked == 1
    assert sink.status in (0, int(failure[9:12] or 0))


def test_the_last_refusal_is_passed_on_as_it_is() -> None:
    answer = ok(b"come later", b"retry-after: 7", status=b"503 Service Unavailable")
    sink, asked = _ask(asking("GET", retries=2), answer)
    assert (sink.status, sink.body(), asked) == (503, b"come later", 3)
    assert (b"retry-after", b"7") in sink.headers


def test_another_instance_is_asked_first() -> None:
    async def scenario() -> None:
        bad = ok(status=b"503 Service Unavailable")
        async with (
            instance(lambda *_: bad) as one,
            instance(lambda *_: bad) as two,
            upstream_to([one.url, two.url], _SOON) as upstream,
        ):
            for _ in range(4):
                await upstream.forward(asking(retries=1), Collector())
            assert (len(one.requests), len(two.requests)) == (4, 4)

    on_both_loops(scenario)


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_request_that_never_left_goes_to_another_instance_whatever_it_is(method: str) -> None:
    async def scenario() -> None:
        async with instance(lambda *_: b"") as gone:
            nobody = gone.url
        async with instance(lambda *_: ok()) as one, upstream_to([nobody, one.url]) as upstream:
            for _ in range(20):
                sink = Collector()
                await upstream.forward(asking(method, body=Pieces(b"x", length=1), retries=0), sink)
                assert sink.status == 200
            assert len(one.requests) == 20

    on_both_loops(scenario)


def test_an_instance_that_is_just_starting_again_is_asked_again() -> None:
    async def scenario() -> None:
        options = HttpOptions(health=None, retry=RetryPolicy(first_wait_s=0.3, random=lambda: 1.0))
        again = Instance(lambda *_: ok(b"back"))
        async with instance(lambda *_: b"") as gone:
            port = gone.port
        async with upstream_to([gone.url], options) as upstream:
            sink = Collector()
            asking_again = asyncio.create_task(upstream.forward(asking(retries=1), sink))
            await asyncio.sleep(0.05)
            async with listening(again.serve, port):
                await asking_again
                assert sink.body() == b"back"

    on_both_loops(scenario)


def test_retries_end_with_the_budget() -> None:
    async def scenario() -> None:
        options = HttpOptions(health=None, retry=_SOON.retry, retry_reserve=3, breaker_threshold=1000)
        bad = ok(status=b"503 Service Unavailable")
        async with instance(lambda *_: bad) as one, upstream_to([one.url], options) as upstream:
            for _ in range(100):
                await upstream.forward(asking(retries=2), Collector())
            # 3 at hand, and 20 % of 100 requests
            assert 100 + 20 <= len(one.requests) <= 100 + 3 + 20

    on_both_loops(scenario)


def test_retries_end_with_the_time_of_the_request() -> None:
    async def scenario() -> None:
        options = HttpOptions(health=None, retry=RetryPolicy(first_wait_s=60, longest_wait_s=60))
        async with instance(lambda *_: b"") as one, upstream_to([one.url], options) as upstream:
            with pytest.raises(BadGatewayError):
                await upstream.forward(asking(retries=2, timeout_s=0.5), Collector())
            assert len(one.requests) == 1

    on_both_loops(scenario)


def test_a_kept_connection_that_the_instance_has_closed_is_not_used_for_a_write() -> None:
    """A stale connection: its end has arrived, and the event loop has not looked yet."""

    async def scenario() -> None:
        async with instance(lambda *_: ok()) as first, upstream_to([first.url]) as upstream:
            await upstream.forward(asking(), Collector())
            (member,) = upstream.cluster.members.values()
            kept = member.pool.take(repeatable=True)
            assert kept is not None
            assert kept.transport is not None
            assert _quiet(kept)
            member.pool.release(kept)
            # The other end closes, and no turn of the loop has read that yet.
            with socket.socket(fileno=os.dup(first.writers[0].get_extra_info("socket").fileno())) as end:
                end.shutdown(socket.SHUT_WR)
            assert not _quiet(kept)
            sink = Collector()
            await upstream.forward(asking("POST", body=b"x"), sink)
            assert sink.status == 200
            assert first.connections == 2

    on_both_loops(scenario)


def test_the_breaker_of_one_route_opens_and_half_opens() -> None:
    async def scenario() -> None:
        options = HttpOptions(health=None, breaker_threshold=2, breaker_cooldown_s=0.2)
        works = False

        def answer(request: Sent, number: int) -> bytes:
            return ok() if works or b"/b" in request.lines[0] else ok(status=b"502 Bad Gateway")

        async with instance(answer) as one, upstream_to([one.url], options) as upstream:

            async def ask(route: str) -> int:
                request = asking(path=route.encode())
                request.route = route
                sink = Collector()
                await upstream.forward(request, sink)
                return sink.status

            assert [await ask("/a"), await ask("/a")] == [502, 502]
            with pytest.raises(ServiceUnavailableError):
                await ask("/a")
            assert await ask("/b") == 200
            assert len(one.requests) == 3
            await asyncio.sleep(0.25)
            assert await ask("/a") == 502
            with pytest.raises(ServiceUnavailableError):
                await ask("/a")
            works = True
            await asyncio.sleep(0.25)
            assert [await ask("/a"), await ask("/a")] == [200, 200]
            (member,) = upstream.cluster.members.values()
            assert not member.breakers

    on_both_loops(scenario)
