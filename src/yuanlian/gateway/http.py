"""One HTTP request as the edge sees it, and the small words of the protocol. Source: RFC 9110, 9112."""

from __future__ import annotations

from http import HTTPStatus

Headers = list[tuple[bytes, bytes]]

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})

STATUS_LINES: dict[int, bytes] = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus
}


class Request:
    """A parsed request. Everything is as sent, except that header names are lower case.

    ``target``: request target (``/a%20b?x=1``). ``path``, ``query``: its two halves, undecoded,
    without the ``?``. ``headers``: in order, repeats kept; ``first`` has the first value of each name.
    ``client``: peer address and port. ``started``: ``time.perf_counter()`` at the request's head.

    The lower block is filled in on the way: ``request_id`` before anything else, ``route`` (the
    template), ``tenant_id`` and ``user_id`` once known, ``forwarded`` when an upstream has it.
    """

    __slots__ = (
        "body",
        "client",
        "first",
        "forwarded",
        "headers",
        "keep_alive",
        "method",
        "path",
        "query",
        "request_id",
        "route",
        "started",
        "target",
        "tenant_id",
        "user_id",
        "version",
    )

    def __init__(
        self,
        method: str,
        target: bytes,
        headers: Headers,
        *,
        client: tuple[str, int] = ("", 0),
        version: str = "1.1",
        body: bytes = b"",
        keep_alive: bool = True,
        first: dict[bytes, bytes] | None = None,
        started: float = 0.0,
    ) -> None:
        self.method = method
        self.target = target
        self.path, _, self.query = target.partition(b"?")
        self.headers = headers
        self.first = dict(reversed(headers)) if first is None else first
        self.client = client
        self.version = version
        self.body = body
        self.keep_alive = keep_alive
        self.started = started
        self.request_id = ""
        self.route = ""
        self.tenant_id = ""
        self.user_id = ""
        self.forwarded = False

    def header(self, name: bytes) -> bytes | None:
        """The first value of a header; ``name`` in lower case."""
        return self.first.get(name)
