"""Workbooks as a spreadsheet program makes them, and as nobody but an attacker does."""

from __future__ import annotations

import io
import zipfile
from typing import Any

from openpyxl import Workbook

TYPES = '<Types><Override ContentType="application/x.sheet.main+xml"/></Types>'
RELATIONS = (
    "<Relationships>"
    '<Relationship Id="r1" Type="http://x/worksheet" Target="worksheets/{sheet}"/>'
    '<Relationship Id="r2" Type="http://x/sharedStrings" Target="/xl/sharedStrings.xml"/>'
    '<Relationship Id="r3" Type="http://x/styles" Target="styles.xml"/>'
    "</Relationships>"
)
BOOK = '<workbook xmlns:r="r"><sheets><sheet name="x" sheetId="1" r:id="r1"/></sheets></workbook>'
EMPTY = "<sst/>"
TITLES = "".join(
    f'<c t="inlineStr"><is><t>{title}</t></is></c>' for title in ("姓名", "性别", "出生日期", "班级")
)


def typed(*rows: list[Any], **properties: Any) -> bytes:
    """A workbook with these rows, as openpyxl writes it."""
    workbook = Workbook()
    for row in rows:
        workbook.worksheets[0].append(row)
    for name, value in properties.items():
        setattr(workbook, name, value)
    return saved(workbook)


def saved(workbook: Workbook) -> bytes:
    file = io.BytesIO()
    workbook.save(file)
    return file.getvalue()


def forged(
    data: str | bytes = "",
    *,
    sheet: str = "sheet1.xml",
    strings: str | bytes = EMPTY,
    styles: str | bytes = "<styleSheet/>",
    book: str | bytes = BOOK,
    compression: int = zipfile.ZIP_DEFLATED,
    **more: bytes,
) -> bytes:
    """A workbook whose ``sheetData`` has ``data`` below the titles (``bytes``: the whole sheet)."""
    if isinstance(data, str):
        data = f"<worksheet><sheetData><row>{TITLES}</row>{data}</sheetData></worksheet>".encode()
    parts: dict[str, str | bytes] = {
        "[Content_Types].xml": TYPES,
        "xl/workbook.xml": book,
        "xl/_rels/workbook.xml.rels": RELATIONS.format(sheet=sheet),
        "xl/sharedStrings.xml": strings,
        "xl/styles.xml": styles,
        f"xl/worksheets/{sheet}": data,
        **more,
    }
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as made:
        for name, content in parts.items():
            made.writestr(name, content)
    return file.getvalue()
