"""The answer to an import."""

from __future__ import annotations

import msgspec


class RowError(msgspec.Struct, frozen=True):
    """``row``: as a spreadsheet program numbers it, the header included."""

    row: int
    field: str
    message: str


class ImportReport(msgspec.Struct, frozen=True):
    """``rows`` of children in the file, ``valid`` ones among them, ``created`` ones (all or none).
    ``errors``: at most ``MAX_ERRORS``, in order of the rows."""

    rows: int
    valid: int
    created: int
    errors: list[RowError]
