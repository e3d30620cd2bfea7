"""Random requests: valid ones from a grammar, and what becomes of them when bytes are changed.

Every function takes the ``Random`` that decides, so that a seed repeats a run and hypothesis can
shrink what it finds.
"""

from __future__ import annotations

from random import Random

_METHODS = ("GET", "GET", "GET", "POST", "POST", "PUT", "HEAD")
_SEGMENTS = ("x", "students", "1", "a.b", "~me", "a-b_c", "%E7%8F%AD", "a;b=c", "...", "@", "x%20y")
_QUERIES = ("", "", "?", "?a=b", "?limit=5&cursor=%2F", "?q=%E7%8F%AD&q=2", "?a?b/c")
_HEADERS = (
    "Accept: */*",
    "Accept-Language: en",
    "User-Agent: fuzz/1.0 (like; nothing)",
    "X-Request-ID: abc-1",
    "X-Empty:",
    "X-Spaces: \t a  b \t",
    "X-Repeated: 1\r\nX-Repeated: 2",
    "Cookie: a=b; c=d",
    "Connection: keep-alive",
    "Connection: X-Gone\r\nX-Gone: 1",
    "TE: trailers",
    "X_Under: 1",
    "X-Forwarded-For: 1.2.3.4",
    "Expect: 100-continue",
    "X-Latin: \xe4\xf6\xfc",
)
_ANSWER_HEADERS = (
    "Content-Type: text/plain",
    "Set-Cookie: a=1\r\nSet-Cookie: b=2",
    "X-Empty:",
    "Connection: keep-alive",
    "Connection: X-Gone\r\nX-Gone: 1",
    "Keep-Alive: timeout=5",
    "X-Request-ID: theirs",
)
_POISON = (
    b"\r", b"\n", b"\r\n", b"\r\n\r\n", b"\0", b" ", b"\t", b"\x0b", b"\x7f", b"\xff", b":", b",", b";", b"0",
    b"chunked", b"HTTP/1.1", b" HTTP/1.0", b"\r\n ", b"../", b"%2e", b"%00", b"//", b"\\", b"#", b"?",
    b"Content-Length: 5\r\n", b"content-length: 0\r\n", b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: x\r\n", b"Host: b\r\n", b"Connection: close\r\n",
    b"Upgrade: h2c\r\nConnection: Upgrade\r\n",
    b"0\r\n\r\n", b"GET /open/smuggled HTTP/1.1\r\nHost: a\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
)  # fmt: skip


def request(rng: Random, paths: tuple[str, ...] = ("/open",), host: str = "a") -> bytes:
    """One valid HTTP/1.1 request for something below one of ``paths``."""
    method = rng.choice(_METHODS)
    target = rng.choice(paths) + "".join(f"/{rng.choice(_SEGMENTS)}" for _ in range(rng.randint(1, 3)))
    target += rng.choice(_QUERIES)
    if rng.random() < 0.05:
        target = f"http://{host}{target}"
    headers = [f"Host: {host}", *rng.sample(_HEADERS, rng.randint(0, 4))]
    if len({line.split(":")[0] for line in headers}) < len(headers):
        headers = headers[:1]  # two lines about the connection say too much
    body, framing = _body(rng) if method in ("POST", "PUT") or rng.random() < 0.05 else (b"", "")
    if framing:
        headers.insert(rng.randint(0, len(headers)), framing)
    head = f"{method} {target} HTTP/1.1\r\n" + "".join(f"{line}\r\n" for line in headers) + "\r\n"
    return head.encode("latin-1") + body


def _body(rng: Random) -> tuple[bytes, str]:
    """A body as sent, and the header that frames it."""
    data = rng.choice((b"", b"{}", b'{"data": {"a": 1}}', b"0\r\n\r\n", b"x" * rng.randint(1, 300)))
    if rng.random() < 0.5:
        return data, f"Content-Length: {len(data)}"
    out = b""
    while data:
        size = rng.randint(1, len(data))
        extension = rng.choice((b"", b"", b";a", b";a=b", b';a="b c"'))
        out += b"%x%b\r\n%b\r\n" % (size, extension, data[:size])
        data = data[size:]
    trailers = rng.choice((b"", b"", b"X-T: 1\r\n"))
    return out + b"0\r\n" + trailers + b"\r\n", "Transfer-Encoding: chunked"


def answer(rng: Random) -> bytes:
    """One valid response, perhaps with interim ones before it."""
    out = rng.choice(
        (b"", b"", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
    )
    body, framing = _body(rng)
    status = rng.choice(("200 OK", "200 OK", "201 Created", "404 Not Found", "500 ", "204 No Content"))
    lines = [f"HTTP/1.1 {status}", *rng.sample(_ANSWER_HEADERS, rng.randint(0, 3)), framing]
    if status.startswith("204"):
        body, lines = b"", lines[:-1]
    return out + "".join(f"{line}\r\n" for line in lines).encode("latin-1") + b"\r\n" + body


def mutate(rng: Random, data: bytes) -> bytes:
    """One small change."""
    at = rng.randint(0, len(data))
    until = min(len(data), at + rng.choice((1, 1, 2, 8, 40)))
    kind = rng.randint(0, 6)
    if kind == 0:
        return data[:at] + data[until:]
    if kind == 1:
        return data[:until] + data[at:until] + data[until:]
    if kind == 2:
        return data[:at] + bytes([rng.randint(0, 255)]) + data[at + 1 :]
    if kind == 3:
        return data[:at] + data[at:until].swapcase() + data[until:]
    if kind == 4:
        return data[:at]
    return data[:at] + rng.choice(_POISON) + data[at:]


def conversation(rng: Random, paths: tuple[str, ...] = ("/open",), host: str = "a") -> bytes:
    """One to three requests, and in two of three conversations up to three changes."""
    data = b"".join(request(rng, paths, host) for _ in range(rng.randint(1, 3)))
    for _ in range(rng.choice((0, 1, 1, 2, 2, 3))):
        data = mutate(rng, data)
    return data


def pieces(rng: Random, data: bytes) -> list[bytes]:
    """The same bytes in several pieces."""
    cuts = sorted(rng.randint(0, len(data)) for _ in range(rng.randint(1, 6)))
    return [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]
