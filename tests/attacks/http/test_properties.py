"""Whatever a client sends, the gateway and a strict reader of the grammar see the same requests.

For random conversations, valid and damaged: one answer per request in order, or one refusal and the
end; never a 5xx; and exactly those requests reach the service that the strict reader finds, when the
gateway says that it served them. The gateway may be stricter than the grammar, never laxer.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from random import Random

import uvloop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.attacks.http.test_upstream import Listener, behind, final_answers
from tests.support.corpus import HostileAnswer
from tests.support.edge import Edge, edge
from tests.support.strict_http import Answer, Reading, read_answers, read_requests
from tests.support.traffic import answer, conversation, mutate, pieces
from tests.support.wire import Witness, exchange

_randoms = st.randoms(use_true_random=False)
_CODE = re.compile(rb"%([0-9A-Fa-f]{2})")
_UNRESERVED = re.compile(rb"[A-Za-z0-9._~-]")
_SERVED = re.compile(rb"/(open|tiny)(/|\?|$)")
_OUTLAW = re.compile(rb"[^A-Za-z0-9._~/!$&'()*+,;=:@%-]")

Seen = list[tuple[bytes, bytes, bytes]]


def served(reading: Reading, answers: list[Answer]) -> Seen:
    """Method, target and body of the requests that a service must have got."""
    return [
        (_as_in_process(message.method), _normal(message.target), message.body)
        for message, answer in zip(reading.messages, answers, strict=False)
        if answer.status == 200
        and re.match(rb"(?i:https?://[^/]*)?/(open|tiny)(/|\?|$)", _normal(message.target))
    ]


def _as_in_process(method: bytes) -> bytes:
    """An application in this process is asked with GET for HEAD; an instance gets what was sent."""
    return b"GET" if method == b"HEAD" else method


def _normal(target: bytes) -> bytes:
    """RFC 3986 §6.2.2: percent codes in capitals, none for a letter that needs none, one for each that
    does; what follows a ``?`` is left alone."""
    target = re.sub(rb"(?i)^https?://[^/?]*", b"", target)
    path, mark, query = target.partition(b"?")

    def code(match: re.Match[bytes]) -> bytes:
        byte = bytes([int(match[1], 16)])
        return byte if _UNRESERVED.match(byte) else match[0].upper()

    path = _OUTLAW.sub(lambda match: b"%%%02X" % match[0][0], path)
    return _CODE.sub(code, path) + (mark + query if query else b"")


def check(data: bytes, answers: list[Answer], closed: bool, seen: Seen) -> None:
    reading = read_requests(data)
    count, whole = len(answers), len(reading.messages)
    assert all(200 <= answer.status < 500 for answer in answers), "no answer may be our fault"
    assert seen == served(reading, answers)
    assert count <= whole + 1
    if count > whole:
        assert answers[-1].status >= 400, "an answer to a request that is none"
        assert closed, "whoever sends nonsense is left"
    if not closed:
        assert count == whole, "a request without an answer"
        # A head may be judged when it is all there.
        half_a_head = b"\r\n\r\n" not in reading.rest
        assert reading.ending != "malformed" or half_a_head, "nonsense was taken for a beginning"


@contextmanager
def loop() -> Iterator[asyncio.Runner]:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        yield runner


def test_a_service_sees_what_a_strict_reader_sees_in_whatever_pieces_it_comes() -> None:
    with loop() as runner:
        stack, witness = AsyncExitStack(), Witness()
        gateway = runner.run(stack.enter_async_context(edge(witness))).gateway

        @settings(max_examples=700, deadline=None, suppress_health_check=[HealthCheck.too_slow])
        @given(_randoms)
        def holds(rng: Random) -> None:
            data = conversation(rng)
            for way in ([data], pieces(rng, data), [data[i : i + 1] for i in range(len(data))]):
                result = runner.run(exchange(gateway, witness, way))
                seen = [(s.method.encode(), s.path.encode("latin-1"), s.body) for s in result.seen]
                check(data, result.answers, result.verdict.closes, seen)

        try:
            holds()
        finally:
            runner.run(stack.aclose())


def test_an_instance_over_http_sees_what_a_strict_reader_sees() -> None:
    with loop() as runner:
        stack, listener = AsyncExitStack(), Listener()
        e = runner.run(stack.enter_async_context(behind(listener)))

        @settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])
        @given(_randoms)
        def holds(rng: Random) -> None:
            data = conversation(rng)
            listener.forget()
            answers, closed = runner.run(_talk(e, data))
            seen = [(_as_in_process(m.method), m.target, m.body) for m in listener.messages()]
            check(data, answers, closed, seen)

        try:
            holds()
        finally:
            runner.run(stack.aclose())


def test_no_answer_of_an_instance_is_taken_for_the_answer_to_another_request() -> None:
    """Damaged answers, and more behind them: the client gets a whole one, an error or the end, and the
    next request its own."""

    async def exchange_two(answer_bytes: bytes, closes: bool) -> None:
        listener = Listener(HostileAnswer("", "", "GET", answer_bytes, closes, b"", "", (), ()))
        async with behind(listener, timeout_ms=300) as e:
            for number in (1, 2):
                reader, writer = await asyncio.open_connection("127.0.0.1", e.port)
                writer.write(b"GET /open/x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                async with asyncio.timeout(30):
                    written = await reader.read()
                writer.close()
                if number == 2:
                    (second,) = read_answers(written)
                    # A busy machine may take the 300 ms, never another's answer.
                    assert second.body == b"second" or second.status == 504

    with loop() as runner:

        @settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
        @given(_randoms)
        def holds(rng: Random) -> None:
            data = answer(rng)
            for _ in range(rng.randint(0, 2)):
                data = mutate(rng, data)
            if rng.random() < 0.5:
                data += b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
            runner.run(exchange_two(data, rng.random() < 0.7))

        holds()


async def _talk(e: Edge, data: bytes) -> tuple[list[Answer], bool]:
    """Sends everything; reads to the end, or until all that is due has come and nothing follows."""
    reading = read_requests(data)
    refused = reading.ending == "malformed" and b"\r\n\r\n" in reading.rest
    due = len(reading.messages) + refused
    reader, writer = await asyncio.open_connection("127.0.0.1", e.port)
    try:
        writer.write(data)
        written, closed = b"", False
        while not closed:
            count = len(final_answers(written))
            done = due <= count <= len(reading.messages)  # one more is a refusal, and the end must follow
            try:
                async with asyncio.timeout(0.005 if done else 5):
                    piece = await reader.read(65536)
            except TimeoutError:
                break
            written, closed = written + piece, not piece
        return [answer for answer in read_answers(written) if answer.status >= 200], closed
    finally:
        writer.close()
