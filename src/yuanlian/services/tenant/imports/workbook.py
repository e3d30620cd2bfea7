"""The first sheet of an .xlsx workbook as rows of text.

A workbook is a zip of XML from a stranger. Before a parser sees it: it must be a zip with a workbook
in it, small when unpacked, without macros and without document type declarations (entity expansion).
``zipfile`` never yields more of a part than the size that was declared and counted here.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from datetime import date, datetime

from yuanlian.kit.errors import PayloadTooLargeError, ValidationError
from yuanlian.kit.i18n import Text

MAX_UNPACKED = 50 * 1024 * 1024
MAX_PARTS = 500
MAX_COLUMNS = 50
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_ZIP = b"PK\x03\x04"


def is_workbook(content: bytes) -> bool:
    """Whether it looks like a spreadsheet program's own format, old or new."""
    return content.startswith((_ZIP, _OLE))


def read_workbook(content: bytes) -> Iterator[list[str]]:
    """Rows of the first sheet, blank ones included, at most ``MAX_COLUMNS`` wide.

    Raises:
        ValidationError: not a workbook we take, with the reason.
        PayloadTooLargeError: too much when unpacked.
    """
    _inspect(content)
    from openpyxl import load_workbook  # 100 ms and 5 MB that only an import should pay

    try:
        workbook = load_workbook(io.BytesIO(content), read_only=True, data_only=True, keep_links=False)
    except Exception:  # noqa: BLE001 - the parser breaks in many ways; each is the file's fault
        raise _not_a_workbook() from None
    try:
        for sheet in workbook.worksheets[:1]:
            # The declared size is a claim of the file; a false one would be padded to in every row.
            sheet.reset_dimensions()
            for row in sheet.iter_rows(max_col=MAX_COLUMNS, values_only=True):
                yield [_text(value) for value in row]
    except Exception:  # noqa: BLE001 - as above: the sheet is parsed while it is read
        raise _not_a_workbook() from None
    finally:
        workbook.close()


def _inspect(content: bytes) -> None:
    if content.startswith(_OLE):
        raise ValidationError.of(
            "file", "不支持 .xls，请另存为 .xlsx", "is an .xls workbook; save it as .xlsx"
        )
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            _inspect_parts(archive)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, OSError, ValueError):
        # Damaged, an unknown compression, or encrypted.
        raise _not_a_workbook() from None


def _inspect_parts(archive: zipfile.ZipFile) -> None:
    parts = archive.infolist()
    names = {part.filename.lower() for part in parts}
    if len(parts) > MAX_PARTS or sum(part.file_size for part in parts) > MAX_UNPACKED:
        raise PayloadTooLargeError(Text("表格解压后过大", "The workbook is too large when unpacked"))
    if "xl/workbook.xml" not in names or "[content_types].xml" not in names:
        raise _not_a_workbook()
    if any(name.endswith("vbaproject.bin") for name in names):
        raise ValidationError.of("file", "不接受含宏的工作簿", "must not contain macros")
    for part in parts:
        if part.filename.lower().endswith((".xml", ".rels")):
            _inspect_xml(archive.read(part))


def _inspect_xml(xml: bytes) -> None:
    # A UTF-16 part would hide the marks from a search of bytes; no spreadsheet program writes one.
    if b"<!DOCTYPE" in xml or b"<!ENTITY" in xml or b"\x00" in xml[:64]:
        raise _not_a_workbook()
    if b"macroEnabled" in xml[:65536] and b"ContentType" in xml[:65536]:
        raise ValidationError.of("file", "不接受含宏的工作簿", "must not contain macros")


def _text(value: object) -> str:
    """As a person would have typed it: dates in ISO, whole numbers without a point (phones)."""
    match value:
        case None:
            return ""
        case datetime():
            return value.date().isoformat()
        case date():
            return value.isoformat()
        case float() if value.is_integer():
            return str(int(value))
        case _:
            return str(value)


def _not_a_workbook() -> ValidationError:
    return ValidationError.of("file", "不是有效的 .xlsx 工作簿", "is not an .xlsx workbook")
