"""Servers that take a connection and never say a word."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager


@contextmanager
def silent(count: int) -> Iterator[list[int]]:
    """The ports. Whoever connects is let in by the system, and nobody reads what he says."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        yield [one.getsockname()[1] for one in sockets]
