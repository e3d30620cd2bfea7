from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from yuanlian.gateway.gathering import GatheringTransport, Turn

Record = list[tuple[str, bytes | str]]


class Plain(asyncio.Transport):
    """Notes what is done with it, under its name."""

    def __init__(self, name: str, record: Record) -> None:
        super().__init__()
        self._name = name
        self._record = record
        self.closing = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._record.append((self._name, bytes(data)))

    def write_eof(self) -> None:
        self._record.append((self._name, "eof"))

    def close(self) -> None:
        self.closing = True
        self._record.append((self._name, "close"))

    def abort(self) -> None:
        self.closing = True
        self._record.append((self._name, "abort"))

    def is_closing(self) -> bool:
        return self.closing


def made(turn: Turn, name: str, record: Record) -> tuple[GatheringTransport, Plain]:
    plain = Plain(name, record)
    return GatheringTransport(plain, turn), plain


def test_what_several_connections_write_in_a_turn_leaves_together_and_in_order() -> None:
    async def scenario() -> tuple[Record, Record]:
        record: Record = []
        turn = Turn()
        one, two = made(turn, "one", record)[0], made(turn, "two", record)[0]
        one.write(b"a")
        two.write(b"b")
        one.write(b"c")
        during = list(record)
        await asyncio.sleep(0)
        return during, record

    assert asyncio.run(scenario()) == ([], [("one", b"ac"), ("two", b"b")])


def test_every_turn_has_its_own_writes() -> None:
    async def scenario() -> Record:
        record: Record = []
        one, _ = made(Turn(), "one", record)
        for data in (b"first", b"second"):
            one.write(data)
            await asyncio.sleep(0)
        return record

    assert asyncio.run(scenario()) == [("one", b"first"), ("one", b"second")]


def test_a_large_piece_does_not_wait_and_does_not_overtake() -> None:
    """Who writes without a pause must meet the transport's high-water mark."""
    large = b"x" * 100_000

    async def scenario() -> Record:
        record: Record = []
        one, _ = made(Turn(), "one", record)
        one.write(b"head")
        one.write(large)
        return list(record)

    assert asyncio.run(scenario()) == [("one", b"head"), ("one", large)]


def test_many_small_pieces_do_not_pile_up() -> None:
    async def scenario() -> tuple[int, int]:
        record: Record = []
        one, _ = made(Turn(), "one", record)
        for _ in range(1_000):
            one.write(b"x" * 1_000)
        waiting = 1_000_000 - sum(len(data) for _, data in record)
        await asyncio.sleep(0)
        return waiting, sum(len(data) for _, data in record)

    waiting, written = asyncio.run(scenario())
    assert waiting <= 16 * 1024
    assert written == 1_000_000


@pytest.mark.parametrize(
    ("end", "noted"),
    [
        (GatheringTransport.close, [("one", "close")]),
        (GatheringTransport.abort, [("one", "abort")]),
        (GatheringTransport.write_eof, [("one", "eof")]),
        (GatheringTransport.release, []),
    ],
)
def test_what_waits_is_written_before_an_end(
    end: Callable[[GatheringTransport], object], noted: Record
) -> None:
    async def scenario() -> Record:
        record: Record = []
        one, _ = made(Turn(), "one", record)
        one.write(b"answer")
        end(one)
        await asyncio.sleep(0)
        return record

    assert asyncio.run(scenario()) == [("one", b"answer"), *noted]


def test_a_connection_that_closed_meanwhile_does_not_keep_the_others_from_writing() -> None:
    async def scenario() -> Record:
        record: Record = []
        turn = Turn()
        gone, plain = made(turn, "gone", record)
        there, _ = made(turn, "there", record)
        gone.write(b"lost")
        there.write(b"kept")
        plain.closing = True
        await asyncio.sleep(0)
        return record

    assert asyncio.run(scenario()) == [("there", b"kept")]


def test_a_write_that_fails_leaves_no_other_unwritten() -> None:
    class Broken(Plain):
        def write(self, data: bytes | bytearray | memoryview) -> None:
            raise RuntimeError("Cannot call write() after write_eof()")

    async def scenario() -> Record:
        record: Record = []
        turn = Turn()
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        GatheringTransport(Broken("broken", record), turn).write(b"lost")
        made(turn, "whole", record)[0].write(b"kept")
        for _ in range(5):
            await asyncio.sleep(0)
        return record

    assert asyncio.run(scenario()) == [("whole", b"kept")]
