"""The attack corpus: raw bytes with the verdict each must get, kept as TOML beside the tests.

The bytes are written as they look, with ``\\r \\n \\t \\0 \\\\`` and ``\\xNN`` for what does not; line breaks
of the file itself count for nothing. ``{100*X-#: 1\\r\\n}`` repeats its text, ``#`` being the number of
the turn, and ``{GET}``, ``{POST}``, ``{SMUGGLED}`` stand for the beginnings below.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

_HERE = Path(__file__).parents[1] / "attacks" / "http"

_MACROS = {
    "{GET}": r"GET /open/x HTTP/1.1\r\nHost: a\r\n",
    "{POST}": r"POST /open/x HTTP/1.1\r\nHost: a\r\n",
    "{SMUGGLED}": r"GET /open/smuggled HTTP/1.1\r\nHost: a\r\n\r\n",
}
_REPEAT = re.compile(r"\{(\d+)\*([^{}]*)\}")
_ESCAPE = re.compile(r"\\(?:x([0-9A-Fa-f]{2})|(.))")
_SIMPLE = {"r": "\r", "n": "\n", "t": "\t", "0": "\0", "\\": "\\"}


class Verdict(NamedTuple):
    """What the client and the upstream must see.

    ``statuses``: of the final answers, in order. ``closes``: whether the gateway ends the connection.
    ``upstream``: the whole requests that the upstream got, as ``METHOD target`` and the body.
    """

    statuses: tuple[int, ...]
    closes: bool
    upstream: tuple[tuple[str, bytes], ...]


class Case(NamedTuple):
    """``passes`` and ``drops``: header lines that the upstream's first request has, and header names
    that it does not. ``interim``: how often ``100 Continue`` is said when all bytes come at once."""

    name: str
    source: str
    data: bytes
    verdict: Verdict
    passes: tuple[bytes, ...]
    drops: tuple[bytes, ...]
    interim: int | None


class HostileAnswer(NamedTuple):
    """What an instance behind the gateway sends, and what the client must get.

    ``verdict``: the status and the body, or ``cut``. ``closes``: the instance closes afterwards.
    ``later``: bytes that it sends once its answer is over.
    """

    name: str
    source: str
    method: str
    data: bytes
    closes: bool
    later: bytes
    verdict: str
    passes: tuple[bytes, ...]
    drops: tuple[bytes, ...]


def decode(text: str) -> bytes:
    """The bytes that the notation stands for.

    Raises:
        ValueError: an unknown escape.
    """
    text = text.replace("\n", "")
    for macro, meaning in _MACROS.items():
        text = text.replace(macro, meaning)

    def repeat(match: re.Match[str]) -> str:
        return "".join(match[2].replace("#", str(turn)) for turn in range(int(match[1])))

    def escape(match: re.Match[str]) -> str:
        if match[1]:
            return chr(int(match[1], 16))
        if match[2] not in _SIMPLE:
            raise ValueError(f"unknown escape \\{match[2]}")
        return _SIMPLE[match[2]]

    return _ESCAPE.sub(escape, _REPEAT.sub(repeat, text)).encode("latin-1")


def requests() -> list[Case]:
    """Every case of ``corpus/*.toml``; its name begins with that of its file."""
    return [
        Case(
            name=f"{topic}: {entry['name']}",
            source=entry["source"],
            data=decode(entry["send"]),
            verdict=_verdict(entry["verdict"], entry.get("upstream", [])),
            passes=tuple(decode(line) for line in entry.get("passes", [])),
            drops=tuple(decode(name) for name in entry.get("drops", [])),
            interim=entry.get("interim"),
        )
        for topic, entry in _entries(_HERE / "corpus")
    ]


def hostile_answers() -> list[HostileAnswer]:
    """Every case of ``answers/*.toml``."""
    return [
        HostileAnswer(
            name=entry["name"],
            source=entry["source"],
            method=entry.get("method", "GET"),
            data=decode(entry["answer"]),
            closes=entry.get("closes", False),
            later=decode(entry.get("later", "")),
            verdict=entry["verdict"],
            passes=tuple(decode(line) for line in entry.get("passes", [])),
            drops=tuple(decode(name) for name in entry.get("drops", [])),
        )
        for _, entry in _entries(_HERE / "answers")
    ]


def _entries(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for file in sorted(folder.glob("*.toml")):
        for entry in tomllib.loads(file.read_text("utf-8"))["case"]:
            yield file.stem, entry


def _verdict(text: str, upstream: list[str]) -> Verdict:
    """``200 400 close``; ``upstream``: ``GET /open/x`` or ``POST /open/x the body``."""
    *statuses, fate = text.split()
    if fate not in ("open", "close"):
        raise ValueError(f"{text!r} does not end in open or close")
    seen = []
    for line in upstream:
        method, target, *body = line.split(" ", 2)
        seen.append((f"{method} {decode(target).decode('latin-1')}", decode(body[0]) if body else b""))
    return Verdict(tuple(int(status) for status in statuses), fate == "close", tuple(seen))
