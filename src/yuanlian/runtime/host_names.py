"""Looking up a host name in a time of our own."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from urllib.parse import urlsplit


class UnknownHostError(Exception):
    """No address is found for the name; says what to do, and not the name: cut from an URL that is wrong it
    may be part of a password."""


async def look_up(url: str) -> None:
    """Returns when the host of the URL has an address. Whoever gives up waiting has nobody to wait for at the
    end: the loop's own threads, and with them the process, last as long as the system's resolver tries. Of a
    URL that names no host, or is none, the driver says what is wrong.

    Raises:
        UnknownHostError: it has none.
    """
    try:
        host = urlsplit(url).hostname
    except ValueError:
        return
    if not host:
        return
    loop = asyncio.get_running_loop()
    answered: asyncio.Future[OSError | None] = loop.create_future()

    def answer(error: OSError | None) -> None:
        if not answered.done():
            answered.set_result(error)

    def ask() -> None:
        error: OSError | None = None
        try:
            socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except OSError as caught:
            error = caught
        except UnicodeError:
            error = OSError("no host has such a name")
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(answer, error)

    threading.Thread(target=ask, name="look up a host", daemon=True).start()
    error = await answered
    if error is not None:
        raise UnknownHostError(f"its host has no address: is the name right? ({error.strerror or error})")
