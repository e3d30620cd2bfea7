"""The first sheet of an .xlsx workbook as rows of text (ECMA-376 part 1, §18).

Our own reader and not a library's: those build what a file asks them to build, and 47 KB can ask for
gigabytes. This one keeps a row at a time, and the texts that rows refer to.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta

from yuanlian.kit.errors import ValidationError
from yuanlian.services.tenant.imports.archive import MAX_PARTS, Archive, not_a_workbook, too_much
from yuanlian.services.tenant.imports.xml_events import Event, XmlEvents

MAX_COLUMNS = 64
MAX_STRINGS = 100_000
MAX_DAY = 2_950_000
"""In the year 9976, whichever the epoch."""
MAX_FORMAT = 255
"""Characters of a number format, as spreadsheet programs have it."""
MAX_TEXT = 1_000
"""Characters kept of one cell: far more than any field may have, so a longer one is refused there."""

_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_ZIP = b"PK\x03\x04"
_TYPES, _WORKBOOK = "[content_types].xml", "xl/workbook.xml"
_RELATIONS = "xl/_rels/workbook.xml.rels"
_CELL = re.compile(r"([A-Z]{1,3})[0-9]{1,7}")
# Built-in number formats of dates, those of Chinese programs included (§18.8.30).
_DATE_FORMATS = frozenset({14, 15, 16, 17, 22, 27, 28, 29, 30, 31, 36, 50, 51, 52, 53, 54, 57, 58})
_NOT_PATTERN = re.compile(r'"[^"]*"|\[[^\]]*\]|\\.|_.')


def is_workbook(content: bytes) -> bool:
    """Whether it looks like a spreadsheet program's own format, old or new."""
    return content.startswith((_ZIP, _OLE))


def read_workbook(content: bytes) -> Iterator[tuple[int, list[str]]]:
    """Number and cells of the rows of the first sheet that hold anything.

    Raises:
        ValidationError: not a workbook we take, with the reason.
        PayloadTooLargeError: too much in it.
    """
    if content.startswith(_OLE):
        raise ValidationError.of(
            "file", "不支持 .xls，请另存为 .xlsx", "is an .xls workbook; save it as .xlsx"
        )
    archive, xml = Archive(content), XmlEvents()
    try:
        _refuse_macros(archive, xml)
        book = _read_book(archive, xml)
        yield from _rows(xml.read(archive.chunks(book.sheet)), book)
    except (ValueError, LookupError):
        # A number that is none, or a reference to what is missing.
        raise not_a_workbook() from None


@dataclass(slots=True)
class _Book:
    """``sheet``: the part with the rows. ``dates``: whether a cell style shows a date."""

    sheet: str
    strings: list[str] = field(default_factory=list)
    dates: list[bool] = field(default_factory=list)
    epoch: date = date(1899, 12, 30)


def _refuse_macros(archive: Archive, xml: XmlEvents) -> None:
    if _TYPES not in archive.names or _WORKBOOK not in archive.names:
        raise not_a_workbook()
    types = (event.attributes.get("ContentType", "") for event in xml.read(archive.chunks(_TYPES)))
    if any("macroEnabled" in type_ for type_ in types) or any(
        name.endswith("vbaproject.bin") for name in archive.names
    ):
        raise ValidationError.of("file", "不接受含宏的工作簿", "must not contain macros")


def _read_book(archive: Archive, xml: XmlEvents) -> _Book:
    parts: dict[str, tuple[str, str]] = {}
    for name, attributes in _starts(xml.read(archive.chunks(_RELATIONS))):
        if name == "Relationship":
            kind = attributes["Type"].rpartition("/")[2]
            parts[attributes["Id"]] = kind, _part(attributes["Target"])
            if len(parts) > MAX_PARTS:
                raise too_much()
    book = _Book(sheet="")
    for name, attributes in _starts(xml.read(archive.chunks(_WORKBOOK))):
        if name == "workbookPr" and attributes.get("date1904") in ("1", "true"):
            book.epoch = date(1904, 1, 1)
        elif name == "sheet" and not book.sheet:
            kind, part = parts[next((id_ for key, id_ in attributes.items() if key.endswith(":id")), "")]
            book.sheet = part if kind == "worksheet" else ""
    for kind, part in parts.values():
        if kind == "sharedStrings":
            book.strings = _strings(xml.read(archive.chunks(part)))
        elif kind == "styles":
            book.dates = _date_styles(xml.read(archive.chunks(part)))
    return book


def _starts(events: Iterable[Event]) -> Iterator[tuple[str, dict[str, str]]]:
    return ((event.name, event.attributes) for event in events if event.kind == "start")


def _part(target: str) -> str:
    return posixpath.normpath(posixpath.join("/xl", target.replace("\\", "/"))).lstrip("/")


def _strings(events: Iterable[Event]) -> list[str]:
    """Trimmed here once, so that a thousand cells with one text share it."""
    strings: list[str] = []
    text = _Text()
    for event in events:
        text.hear(event)
        if event.kind == "end" and event.name == "si":
            if len(strings) == MAX_STRINGS:
                raise too_much()
            strings.append(text.take())
    return strings


class _Text:
    """Gathers the text of a cell or shared string: its runs, without the readings of characters."""

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._length = 0
        self._inside = self._reading = False

    def hear(self, event: Event) -> None:
        if event.kind == "text":
            if self._inside and not self._reading and self._length < MAX_TEXT:
                self._pieces.append(event.text[:MAX_TEXT])
                self._length += len(event.text)
        elif event.name in ("t", "v"):
            self._inside = event.kind == "start"
        elif event.name == "rPh":
            self._reading = event.kind == "start"

    def take(self) -> str:
        text = "".join(self._pieces).strip()
        self._pieces.clear()
        self._length = 0
        return text


def _date_styles(events: Iterable[Event]) -> list[bool]:
    formats = set(_DATE_FORMATS)
    dates: list[bool] = []
    inside = False
    for kind, name, attributes, _ in events:
        if name == "cellXfs":
            inside = kind == "start"
        elif kind == "start" and name == "numFmt" and _shows_date(attributes["formatCode"]):
            formats.add(int(attributes["numFmtId"]))
        elif kind == "start" and name == "xf" and inside:
            dates.append(int(attributes.get("numFmtId", 0)) in formats)
    return dates


def _shows_date(code: str) -> bool:
    pattern = _NOT_PATTERN.sub("", code[:MAX_FORMAT].partition(";")[0]).lower()
    return "y" in pattern or "d" in pattern


def _rows(events: Iterable[Event], book: _Book) -> Iterator[tuple[int, list[str]]]:
    row = column = 0
    cells: dict[int, str] = {}
    cell: dict[str, str] = {}
    text = _Text()
    inside = False
    for event in events:
        kind, name, attributes, _ = event
        if name == "sheetData":
            inside = kind == "start"
        elif not inside:
            continue
        elif kind == "text" or name not in ("row", "c"):
            text.hear(event)
        elif kind == "start" and name == "row":
            number = int(attributes.get("r", row + 1))
            if number <= row:
                raise not_a_workbook()
            row, column, cells = number, 0, {}
        elif kind == "start":
            cell = attributes
            column = _column(cell["r"]) if "r" in cell else column + 1
            text.take()
        elif name == "c":
            if value := _value(text.take(), cell, book):
                if column > MAX_COLUMNS:
                    raise _too_wide(row)
                cells[column] = value
        elif cells:
            yield row, [cells.get(column, "") for column in range(1, max(cells) + 1)]


def _column(reference: str) -> int:
    found = _CELL.fullmatch(reference)
    if found is None:
        raise not_a_workbook()
    number = 0
    for letter in found.group(1):
        number = number * 26 + ord(letter) - 64
    return number


def _too_wide(row: int) -> ValidationError:
    return ValidationError.of(
        f"row[{row}]", f"最多 {MAX_COLUMNS} 列", f"must have at most {MAX_COLUMNS} columns"
    )


def _value(text: str, cell: dict[str, str], book: _Book) -> str:
    """As a person would have typed it: dates in ISO, whole numbers without a point (phones)."""
    match cell.get("t", "n"):
        case _ if not text:
            return ""
        case "s":
            return book.strings[_index(text, book.strings)]
        case "n":
            return _number(text, cell, book)
        case "b":
            return "TRUE" if text == "1" else "FALSE"
        case "d":
            return text.partition("T")[0]
        case _:
            return text


def _index(text: str, rows: Sequence[object]) -> int:
    index = int(text)
    if not 0 <= index < len(rows):
        raise IndexError
    return index


def _number(text: str, cell: dict[str, str], book: _Book) -> str:
    number = float(text)
    style = int(cell.get("s", 0))
    if style < len(book.dates) and book.dates[style] and 1 <= number < MAX_DAY:
        return (book.epoch + timedelta(days=int(number))).isoformat()
    return str(int(number)) if number.is_integer() else str(number)
