"""What those in other processes must hear of soon: changes after a cursor.

A reader asks again and again with the cursor it was given, and is answered at once when there is news
(long polling). Cursors are the database's, not a process's: any instance can answer any reader (decision
0018). Nothing is lost in between: a reader whose cursor says nothing is told everything instead.
"""

from __future__ import annotations

from typing import Generic, TypeVar

import msgspec

T = TypeVar("T")

WAIT_S = 2.0
"""How long a question waits for news: a service that stops waits for those who ask it, too."""


class Changes(msgspec.Struct, Generic[T], frozen=True):
    """``items``: oldest first; when ``complete``, all that is still in force, whatever the reader knew.
    ``cursor``: for the next question."""

    cursor: str
    complete: bool
    items: tuple[T, ...] = ()
