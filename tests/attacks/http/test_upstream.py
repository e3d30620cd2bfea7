"""The gateway in front of an instance over HTTP: what bytes reach it, and what its answers can do.

Whoever speaks HTTP twice can be fooled twice. The corpus must not make two requests out of one on the
inner connection either, and no answer of an instance may be taken for the answer to another request.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from tests.support.corpus import Case, HostileAnswer, Verdict, hostile_answers, requests
from tests.support.edge import ROUTES, Edge, edge, run
from tests.support.instances import listening, upstream_to
from tests.support.strict_http import Answer, Message, read_answers, read_requests

CASES = requests()
ANSWERS = hostile_answers()
_OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
_SECOND = b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nsecond"
# No service behind this table waits for long; a test that hangs says so.
_PATIENCE_S = 30.0


class Stream:
    """What came over one connection, and how many of its requests were answered."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.answered = 0


class Listener:
    """An instance that keeps every byte, connection by connection, and answers whole requests."""

    def __init__(self, *scripted: HostileAnswer) -> None:
        self.streams: list[Stream] = []
        self._scripted = list(scripted)
        self._otherwise = _SECOND if scripted else _OK

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        stream = Stream()
        self.streams.append(stream)
        while data := await reader.read(65536):
            stream.data += data
            whole = len(read_requests(bytes(stream.data)).messages)
            while stream.answered < whole:
                stream.answered += 1
                if await self._answer(writer):
                    return

    async def _answer(self, writer: asyncio.StreamWriter) -> bool:
        """Whether the connection is closed now."""
        if not self._scripted:
            writer.write(self._otherwise)
            return False
        case = self._scripted.pop(0)
        writer.write(case.data)
        if case.later:
            await writer.drain()
            await asyncio.sleep(0.01)
            writer.write(case.later)
        return case.closes

    def forget(self) -> None:
        """As if nothing had come yet; connections stay."""
        for stream in self.streams:
            stream.data.clear()
            stream.answered = 0

    def messages(self) -> list[Message]:
        """The whole requests of all connections; half ones are those that the gateway gave up."""
        readings = [read_requests(bytes(stream.data)) for stream in self.streams]
        assert all(reading.ending != "malformed" for reading in readings), readings
        return [message for reading in readings for message in reading.messages]


@asynccontextmanager
async def behind(listener: Listener, timeout_ms: int = 2000) -> AsyncIterator[Edge]:
    routes = ROUTES.replace("auth: false", "auth: false, retries: 0")
    routes = routes.replace("timeoutMs: 2000", f"timeoutMs: {timeout_ms}")
    async with (
        listening(listener.serve) as port,
        upstream_to([f"http://127.0.0.1:{port}"]) as upstream,
        edge(upstream=upstream, routes=routes) as e,
    ):
        yield e


def test_no_bytes_make_two_requests_out_of_one_on_the_inner_connection() -> None:
    async def one(case: Case) -> None:
        listener = Listener()
        async with behind(listener) as e:
            written = await _send(e.port, case)
            await asyncio.sleep(0)
        messages = listener.messages()
        # The corpus says what an application in this process gets, which is asked with GET instead of HEAD.
        assert case.data[:4] != b"HEAD" or messages[0].method == b"HEAD"
        methods = ["GET" if m.method == b"HEAD" else m.method.decode() for m in messages]
        upstream = tuple(
            (f"{how} {m.target.decode()}", m.body) for how, m in zip(methods, messages, strict=True)
        )
        statuses = tuple(a.status for a in read_answers(written) if a.status >= 200)
        assert Verdict(statuses, case.verdict.closes, upstream) == case.verdict, case.name
        if messages:
            names = {name for name, _ in messages[0].headers}
            lines = [name + b": " + value for name, value in messages[0].headers]
            framing = {b"transfer-encoding", b"content-length"}
            assert len(names & framing) <= 1, case.name
            assert names.isdisjoint(set(case.drops) - framing), case.name
            assert set(case.passes) <= set(lines), case.name

    async def scenario() -> None:
        for case in CASES:
            await one(case)

    run(scenario)


async def _send(port: int, case: Case) -> bytes:
    """Everything that comes back: to the end, or until as many answers as there should be."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(case.data)
        if case.verdict.closes:
            return await asyncio.wait_for(reader.read(), _PATIENCE_S)
        written = b""
        while len(final_answers(written)) < len(case.verdict.statuses):
            written += await asyncio.wait_for(reader.read(65536), _PATIENCE_S)
        return written
    finally:
        writer.close()


def final_answers(written: bytes) -> list[Answer]:
    """The answers but for interim ones; none while the last is not whole."""
    try:
        return [answer for answer in read_answers(written) if answer.status >= 200]
    except ValueError:
        return []


def test_a_body_that_its_client_leaves_unfinished_takes_no_other_request_with_it() -> None:
    """The inner connection is in the middle of a body: what comes next on it would be swallowed."""

    async def scenario() -> None:
        listener = Listener()
        async with behind(listener) as e:
            for half in (b"Content-Length: 100000\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n15f90\r\n"):
                reader, writer = await asyncio.open_connection("127.0.0.1", e.port)
                writer.write(b"POST /open/half HTTP/1.1\r\nHost: a\r\n" + half + b"x" * 80_000)
                while not any(b"/open/half" in stream.data for stream in listener.streams):
                    await asyncio.sleep(0.001)
                writer.close()
                reader, writer = await asyncio.open_connection("127.0.0.1", e.port)
                answer = await _ask(reader, writer, "GET")
                writer.close()
                assert answer is not None
                assert answer.body == b"ok"
                listener.streams = [s for s in listener.streams if b"/open/half" not in s.data]
        assert {message.target for message in listener.messages()} == {b"/open/x"}

    run(scenario)


def test_there_are_enough_hostile_answers() -> None:
    assert len(ANSWERS) >= 30
    assert len({case.name for case in ANSWERS}) == len(ANSWERS)


@pytest.mark.parametrize("case", ANSWERS, ids=[case.name for case in ANSWERS])
def test_an_answer_of_an_instance_is_passed_on_whole_or_not_at_all(case: HostileAnswer) -> None:
    async def scenario() -> None:
        listener = Listener(case)
        async with behind(listener) as e:
            reader, writer = await asyncio.open_connection("127.0.0.1", e.port)
            try:
                answer = await _ask(reader, writer, case.method)
                _check(case, answer)
                await asyncio.sleep(0.02 if case.later else 0)
                if answer is None or answer.value(b"connection") == b"close":
                    assert await asyncio.wait_for(reader.read(), _PATIENCE_S) == b""
                    writer.close()
                    reader, writer = await asyncio.open_connection("127.0.0.1", e.port)
                second = await _ask(reader, writer, "GET")
                assert second is not None
                assert (second.status, second.body) == (200, b"second")
            finally:
                writer.close()
        assert [message.method for message in listener.messages()] == [case.method.encode(), b"GET"]

    run(scenario)


async def _ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, method: str) -> Answer | None:
    """The one answer, or None when the connection ends before it is whole."""
    writer.write(f"{method} /open/x HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    written = b""
    while True:
        piece = await asyncio.wait_for(reader.read(65536), _PATIENCE_S)
        if not piece:
            return None
        written += piece
        answers = final_answers(written)
        if answers and not (method == "GET" and _waits_for_body(answers[-1])):
            assert len(answers) == 1, written
            return answers[0]


def _waits_for_body(answer: Answer) -> bool:
    """The head has come alone: ``read_answers`` takes it for an answer to HEAD."""
    length = answer.value(b"content-length")
    framed = answer.value(b"transfer-encoding") is not None or length not in (None, b"0")
    return framed and not answer.body and answer.status not in (204, 304)


def _check(case: HostileAnswer, answer: Answer | None) -> None:
    status, _, body = case.verdict.partition(" ")
    if status == "cut":
        assert answer is None
        return
    assert answer is not None
    assert answer.status == int(status)
    if answer.status == 502:
        assert b'"code":"BAD_GATEWAY"' in answer.body
        return
    assert answer.body == body.encode()
    lines = {name + b": " + value for name, value in answer.headers}
    assert set(case.passes) <= lines
    assert {name for name, _ in answer.headers}.isdisjoint(case.drops)
    for name in (b"x-request-id", b"x-frame-options", b"x-content-type-options"):
        assert answer.value(name) is not None, name  # once: a second value raises
