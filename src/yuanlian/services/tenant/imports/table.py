"""A file as a table: which columns, which rows. No rule about children here."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass

from yuanlian.kit.errors import FieldError, ValidationError
from yuanlian.kit.i18n import Text
from yuanlian.services.tenant.imports.workbook import is_workbook, read_workbook

MAX_ROWS = 5_000
MAX_LINES = 20_000
"""Of a CSV file, blank ones included."""
MAX_LINE = 64 * 1024
"""Characters: a line of commas alone becomes a cell for each."""

COLUMNS: dict[str, tuple[str, ...]] = {
    "name": ("姓名", "幼儿姓名"),
    "gender": ("性别",),
    "birthDate": ("出生日期", "生日"),
    "class": ("班级", "所在班级"),
    "guardianName": ("家长姓名", "监护人姓名"),
    "guardianPhone": ("家长电话", "家长手机", "监护人电话"),
    "relation": ("关系", "与幼儿关系"),
}
REQUIRED_COLUMNS = ("name", "gender", "birthDate", "class")
_FIELD_OF = {alias.casefold(): field for field, aliases in COLUMNS.items() for alias in (field, *aliases)}


@dataclass(frozen=True, slots=True)
class Row:
    """``number``: as a spreadsheet program counts. ``cells``: trimmed, by field; absent ones empty."""

    number: int
    cells: dict[str, str]


def read_table(content: bytes, *, workbook: bool) -> list[Row]:
    """The rows of a file whose header may be Chinese or English. Slow: call off the event loop.

    ``workbook``: it was announced as an .xlsx; otherwise its first bytes tell.

    Raises:
        ValidationError: unreadable, unknown or missing columns, too many rows.
    """
    if not content:
        raise ValidationError.of("file", "文件是空的", "is empty")
    lines = read_workbook(content) if workbook or is_workbook(content) else _read_csv(content)
    numbered = iter(lines)
    number, header = next(numbered, (1, []))
    fields = _columns(number, header)
    rows: list[Row] = []
    for number, cells in numbered:
        if len(rows) == MAX_ROWS:
            raise _too_many()
        rows.append(Row(number, _by_field(number, fields, cells)))
    if not rows:
        raise ValidationError.of("file", "没有数据行", "has no rows below the header")
    return rows


def _read_csv(content: bytes) -> Iterator[tuple[int, list[str]]]:
    """Number and cells of the lines that hold anything."""
    reader = csv.reader(_lines(_decode(content)), strict=True)
    try:
        for number, cells in enumerate(reader, 1):
            if number > MAX_LINES:
                raise _too_many()
            cells = [cell.strip() for cell in cells]
            if any(cells):
                yield number, cells
    except csv.Error:
        line = reader.line_num
        raise ValidationError.of(
            "file", f"不是有效的 CSV（第 {line} 行附近）", f"is not valid CSV (near line {line})"
        ) from None


def _lines(text: str) -> Iterator[str]:
    """The lines of a text, each of a length that can be asked of one child."""
    for number, line in enumerate(io.StringIO(text, newline=""), 1):
        if len(line) > MAX_LINE:
            raise ValidationError.of(f"row[{number}]", "行过长", "is too long")
        yield line


def _decode(content: bytes) -> str:
    """UTF-8 with or without a mark, else GB18030 as spreadsheet programs in China write it."""
    for encoding in ("utf-8-sig", "gb18030"):
        try:
            text = content.decode(encoding)
        except UnicodeDecodeError:
            continue
        if "\x00" not in text:
            return text
    raise ValidationError.of("file", "文件编码应为 UTF-8 或 GB18030", "must be text in UTF-8 or GB18030")


def _columns(number: int, header: list[str]) -> dict[int, str]:
    """Which field is in which position."""
    fields: dict[int, str] = {}
    errors: list[FieldError] = []
    for position, title in enumerate(header):
        field = _FIELD_OF.get(title.casefold())
        if not title:
            continue
        if field is None:
            shown = title[:30]
            errors.append(_header_error(number, shown, f"未知的列“{shown}”", "is not a known column"))
        elif field in fields.values():
            errors.append(_header_error(number, field, "列重复", "appears twice"))
        else:
            fields[position] = field
    for field in REQUIRED_COLUMNS:
        if field not in fields.values():
            zh = f"缺少列“{COLUMNS[field][0]}”"
            errors.append(_header_error(number, field, zh, "is a missing column"))
    if errors:
        raise ValidationError(details=errors)
    return fields


def _header_error(number: int, field: str, zh: str, en: str) -> FieldError:
    return FieldError(f"row[{number}].{field}", Text(zh, en))


def _by_field(number: int, fields: dict[int, str], cells: list[str]) -> dict[str, str]:
    if any(cell for position, cell in enumerate(cells) if position not in fields):
        # A comma too many shifts every cell after it: better refused than stored askew.
        raise ValidationError.of(f"row[{number}]", "单元格多于表头的列", "has cells without a column title")
    values = dict.fromkeys(COLUMNS, "")
    values.update({fields[p]: cell for p, cell in enumerate(cells) if p in fields})
    return values


def _too_many() -> ValidationError:
    return ValidationError.of(
        "file", f"一次最多导入 {MAX_ROWS} 行", f"must not have more than {MAX_ROWS} rows"
    )
