"""Who is connected to a listener, and how often."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from yuanlian.gateway.gathering import Turn

Connection = TypeVar("Connection")


def nobody(address: str) -> bool:
    del address
    return False


class Peers(Generic[Connection]):
    """The living connections of one listener.

    ``limit``: connections that one address may have; an IPv6 network of 64 bits counts as one, since
    a single subscriber has all of it. ``exempt`` says of an address that it may have any number, as
    proxies in front of us do. ``arrived``: who has read a request in this turn.
    ``turn``: what they write together.
    """

    def __init__(self, limit: int, exempt: Callable[[str], bool] = nobody) -> None:
        self._limit = limit
        self._exempt = exempt
        self._living: set[Connection] = set()
        self._expected: set[Connection] = set()
        self._counts: dict[str, int] = {}
        self.arrived = Turn()
        self.turn = Turn()

    def expect(self, connection: Connection, address: str) -> bool:
        """Counts one that may enter later, or is given up; whether that is worth waiting for."""
        self._expected.add(connection)
        self._count(address)
        return not self.crowded(address) or self._exempt(address)

    def give_up(self, connection: Connection, address: str) -> None:
        """Does nothing when it has entered meanwhile."""
        if connection in self._expected:
            self._expected.remove(connection)
            self._uncount(address)

    def enter(self, connection: Connection, address: str) -> bool:
        """Whether it may stay. It counts either way until it leaves."""
        self._living.add(connection)
        if connection in self._expected:
            self._expected.remove(connection)
            count = self._counts[_source(address)]
        else:
            count = self._count(address)
        return count <= self._limit or self._exempt(address)

    def leave(self, connection: Connection, address: str) -> None:
        """Does nothing when it has left already."""
        if connection not in self._living:
            return
        self._living.remove(connection)
        self._uncount(address)

    def upgraded(self, protocol: asyncio.Protocol, address: str) -> asyncio.Protocol:
        """Counts for ``address`` one who speaks ``protocol`` instead of HTTP and is none of the living any
        more: until what is returned, to be spoken in its place, is told that the connection is lost."""
        self._count(address)
        return _Upgraded(protocol, lambda: self._uncount(address))

    def _count(self, address: str) -> int:
        source = _source(address)
        count = self._counts[source] = self._counts.get(source, 0) + 1
        return count

    def _uncount(self, address: str) -> None:
        source = _source(address)
        count = self._counts[source] - 1
        if count:
            self._counts[source] = count
        else:
            del self._counts[source]

    def crowded(self, address: str) -> bool:
        """Twice the limit: not even worth an answer."""
        return self._counts.get(_source(address), 0) > 2 * self._limit

    def __iter__(self) -> Iterator[Connection]:
        return iter(self._living)

    def __len__(self) -> int:
        return len(self._living)


class _Upgraded(asyncio.Protocol):
    """``protocol``, and ``lost`` is called once its connection is lost."""

    __slots__ = ("_lost", "_protocol")

    def __init__(self, protocol: asyncio.Protocol, lost: Callable[[], None]) -> None:
        self._protocol = protocol
        self._lost = lost

    def data_received(self, data: bytes) -> None:
        self._protocol.data_received(data)

    def eof_received(self) -> bool | None:
        return self._protocol.eof_received()

    def pause_writing(self) -> None:
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        self._protocol.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost()
        self._protocol.connection_lost(exc)


def _source(address: str) -> str:
    if ":" not in address:
        return address
    parsed = ipaddress.IPv6Address(address.partition("%")[0])
    return str(parsed.ipv4_mapped or ipaddress.IPv6Network((parsed, 64), strict=False))
