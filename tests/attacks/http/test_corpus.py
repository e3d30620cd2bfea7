"""The attack corpus against the gateway: every case has the verdict that it must have, however its
bytes arrive, and no case makes two requests out of one."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from tests.support.corpus import Case, requests
from tests.support.edge import edge, run
from tests.support.strict_http import Answer
from tests.support.wire import Exchange, Witness, exchange

CASES = requests()
each_case = pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
_SPLIT_EVERYWHERE = 400
_EDGE = 48


def test_the_corpus_is_as_large_as_promised_and_names_its_sources() -> None:
    assert len(CASES) >= 150
    assert len({case.name for case in CASES}) == len(CASES)
    assert all(case.source for case in CASES)


@each_case
def test_at_once(case: Case) -> None:
    async def scenario() -> None:
        witness = Witness()
        async with edge(witness) as e:
            seen = await exchange(e.gateway, witness, [case.data])
        assert seen.verdict == case.verdict
        assert case.interim is None or seen.interim == case.interim
        for answer in seen.answers:
            _check_envelope(answer)
        if case.verdict.closes and seen.answers:
            assert seen.answers[-1].value(b"connection") == b"close"
        if seen.seen:
            _check_headers(case, seen)

    run(scenario)


@each_case
def test_byte_by_byte_and_split_at_every_offset(case: Case) -> None:
    async def scenario() -> None:
        witness = Witness()
        async with edge(witness) as e:
            bytewise = await exchange(e.gateway, witness, _bytes_of(case.data))
            assert bytewise.verdict == case.verdict, "byte by byte"
            for offset in _offsets(len(case.data)):
                halves = [case.data[:offset], case.data[offset:]]
                split = await exchange(e.gateway, witness, halves)
                assert split.verdict == case.verdict, f"split at {offset}"

    run(scenario)


def _bytes_of(data: bytes) -> list[bytes]:
    """Single bytes; the middle of what is long in pieces of 61, a prime."""
    if len(data) <= _SPLIT_EVERYWHERE * 4:
        return [data[i : i + 1] for i in range(len(data))]
    middle = data[_EDGE:-_EDGE]
    pieces = [middle[i : i + 61] for i in range(0, len(middle), 61)]
    return [*_bytes_of(data[:_EDGE]), *pieces, *_bytes_of(data[-_EDGE:])]


def _offsets(size: int) -> Iterator[int]:
    """Every offset, or in what is long those near its ends and around the limits of the head."""
    if size <= _SPLIT_EVERYWHERE:
        yield from range(1, size)
        return
    yield from range(1, _EDGE)
    yield from (mark + step for mark in (8192, 32768) for step in (-1, 0, 1) if mark + step < size - _EDGE)
    yield from range(size - _EDGE, size)


def _check_envelope(answer: Answer) -> None:
    """Every refusal has the envelope, and its code is the status."""
    if answer.status >= 400 and answer.body:
        assert answer.value(b"content-type") == b"application/json; charset=utf-8"
        assert b'"success":false,"code":%d,' % answer.status in answer.body
        assert b'"requestId":"' in answer.body


def _check_headers(case: Case, seen: Exchange) -> None:
    headers = seen.seen[0].headers
    lines = [name + b": " + value for name, value in headers]
    names = {name for name, _ in headers}
    for line in case.passes:
        assert line in lines
    assert names.isdisjoint(case.drops)


def test_the_verdicts_are_the_same_over_a_socket() -> None:
    """The wire without a socket is ours; this shows that it tells the truth."""

    async def over_socket(case: Case, port: int, witness: Witness) -> Exchange:
        witness.seen = []
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(case.data)
            if case.verdict.closes:
                return Exchange(await asyncio.wait_for(reader.read(), 30), True, witness)
            written = b""
            while True:
                seen = Exchange(written, False, witness)
                if len(seen.answers) == len(case.verdict.statuses):
                    return seen
                written += await asyncio.wait_for(reader.read(65536), 30)
        finally:
            writer.close()

    async def scenario() -> None:
        witness = Witness()
        async with edge(witness) as e:
            for case in CASES:
                assert (await over_socket(case, e.port, witness)).verdict == case.verdict, case.name

    run(scenario)
