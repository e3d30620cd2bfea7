"""XML from a stranger as a stream of events: no tree, no entities, bounded in all it can grow.

Element names come without their prefix; SpreadsheetML needs no more to tell them apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple
from xml.parsers import expat

from yuanlian.services.tenant.imports.archive import not_a_workbook, too_much

MAX_ELEMENTS = 400_000
"""Of a whole workbook; 5,000 children with guardians are about 80,000."""
MAX_DEPTH = 32
MAX_TOKEN = 128 * 1024
"""Bytes of one tag: expat keeps a tag until it is complete, and Python all its attributes."""


class Event(NamedTuple):
    """``attributes``: of a ``start``, as they are written. ``text``: a piece of it; several may follow
    each other."""

    kind: Literal["start", "end", "text"]
    name: str
    attributes: dict[str, str]
    text: str


_NONE: dict[str, str] = {}


class XmlEvents:
    """Reads the parts of one workbook, which share one allowance of elements."""

    def __init__(self) -> None:
        self.elements = 0
        """Read so far."""

    def read(self, chunks: Iterable[bytes]) -> Iterator[Event]:
        """The events of one part, as its bytes come in.

        Raises:
            ValidationError: not well-formed, or with a document type declaration (whose entities
                expand without bound). PayloadTooLargeError
        """
        events: list[Event] = []
        depth = 0

        def start(name: str, attributes: dict[str, str]) -> None:
            nonlocal depth
            self.elements += 1
            depth += 1
            if self.elements > MAX_ELEMENTS or depth > MAX_DEPTH:
                raise too_much()
            events.append(Event("start", _local(name), attributes, ""))

        def end(name: str) -> None:
            nonlocal depth
            depth -= 1
            events.append(Event("end", _local(name), _NONE, ""))

        parser = expat.ParserCreate()
        parser.buffer_text = True
        parser.StartElementHandler = start
        parser.EndElementHandler = end
        parser.CharacterDataHandler = lambda data: events.append(Event("text", "", _NONE, data))
        parser.StartDoctypeDeclHandler = _refuse_doctype

        fed = 0
        for chunk in chunks:
            fed += len(chunk)
            _parse(parser, chunk, last=False)
            if fed - max(parser.CurrentByteIndex, 0) > MAX_TOKEN:
                raise too_much()
            yield from events
            events.clear()
        _parse(parser, b"", last=True)
        yield from events


def _parse(parser: expat.XMLParserType, chunk: bytes, *, last: bool) -> None:
    try:
        parser.Parse(chunk, last)
    except (expat.ExpatError, LookupError, ValueError):
        # Not well-formed; the other two: an encoding that nobody knows, or of several bytes.
        raise not_a_workbook() from None


def _refuse_doctype(*_: object) -> None:
    raise not_a_workbook()


def _local(name: str) -> str:
    return name.rpartition(":")[2]
