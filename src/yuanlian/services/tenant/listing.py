"""A page of rows that the caller may see, of a list in order of id."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from yuanlian.kit.http.pagination import decode_cursor, encode_cursor


class Identified(Protocol):
    @property
    def id(self) -> str: ...


Row = TypeVar("Row", bound=Identified)


def visible_page(
    fetch: Callable[[str | None, int], Sequence[Row]],
    visible: Callable[[Row], bool],
    cursor: str | None,
    limit: int,
    *,
    of: str,
) -> tuple[list[Row], str | None]:
    """The next ``limit`` visible rows and the cursor after them (None on the last page).

    ``fetch(after, n)`` reads the first ``n`` rows whose id follows ``after``. Pages are full even
    when rows are decided one by one after they were read. ``of``: the list's name in its cursors.
    """
    key = decode_cursor(cursor, str, of=of)
    after = str(key[0]) if key else None
    rows: list[Row] = []
    while True:
        batch = fetch(after, limit + 1)
        for row in filter(visible, batch):
            if len(rows) == limit:
                return rows, encode_cursor(rows[-1].id, of=of)
            rows.append(row)
        if len(batch) <= limit:
            return rows, None
        after = batch[-1].id
