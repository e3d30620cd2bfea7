"""The parts of an .xlsx file: a zip from a stranger, unpacked within bounds.

What a zip says about itself is only ever used to refuse it sooner; what counts is counted while it
is unpacked. Parts that nobody asks for are never unpacked.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Iterator

from yuanlian.kit.errors import PayloadTooLargeError, ValidationError
from yuanlian.kit.i18n import Text

MAX_PARTS = 500
MAX_PART = 10 * 1024 * 1024
MAX_UNPACKED = 20 * 1024 * 1024
MAX_RATIO = 200
"""Unpacked to packed, of parts over ``SMALL``; deflate reaches 1,030, 5,000 equal rows about 60."""
SMALL = 1024 * 1024
CHUNK = 16 * 1024

_ENTRY = b"PK\x01\x02"
_TAKEN = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # the only ones of OPC, and zipfile bounds their output
# Damaged, encrypted, or of a kind that zipfile does not know.
_BROKEN = (
    zipfile.BadZipFile,
    zlib.error,
    NotImplementedError,
    RuntimeError,
    EOFError,
    OSError,
    ValueError,
)


class Archive:
    """``names`` are in lower case, as part names of OPC are compared (ECMA-376 part 2, §6.2.2.3).

    Raises, as ``chunks`` does:
        ValidationError: damaged, encrypted, or not a zip.
        PayloadTooLargeError: too many parts, or too much in them.
    """

    def __init__(self, content: bytes) -> None:
        self._unpacked = 0
        # Before zipfile makes an object of each entry.
        if content.count(_ENTRY) > MAX_PARTS:
            raise too_much()
        try:
            self._zip = zipfile.ZipFile(io.BytesIO(content))
        except _BROKEN:
            raise not_a_workbook() from None
        self._parts = {part.filename.lower(): part for part in self._zip.infolist()}
        if sum(part.file_size for part in self._zip.infolist()) > MAX_UNPACKED:
            raise too_much()

    @property
    def names(self) -> frozenset[str]:
        return frozenset(self._parts)

    def chunks(self, name: str) -> Iterator[bytes]:
        """The bytes of a part, at most ``CHUNK`` at a time."""
        part = self._parts.get(name.lower())
        if part is None or part.compress_type not in _TAKEN:
            raise not_a_workbook()
        size = 0
        try:
            with self._zip.open(part) as file:
                while chunk := file.read(CHUNK):
                    size += len(chunk)
                    self._unpacked += len(chunk)
                    if size > MAX_PART or self._unpacked > MAX_UNPACKED:
                        raise too_much()
                    if size > SMALL and size > MAX_RATIO * part.compress_size:
                        raise too_much()
                    yield chunk
        except _BROKEN:
            raise not_a_workbook() from None


def not_a_workbook() -> ValidationError:
    return ValidationError.of("file", "不是有效的 .xlsx 工作簿", "is not an .xlsx workbook")


def too_much() -> PayloadTooLargeError:
    return PayloadTooLargeError(Text("表格内容过多", "The workbook holds too much"))
