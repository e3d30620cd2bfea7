"""Whole rosters at once; each noun's own SQL is in its sub-package."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import insert
from sqlalchemy.orm import Session

Row = dict[str, Any]


def insert_many(session: Session, model: type[Any], rows: Sequence[Row]) -> None:
    """One statement; ``rows`` have the same keys, ``tenant_id`` among them."""
    if rows:
        session.execute(insert(model), list(rows))
