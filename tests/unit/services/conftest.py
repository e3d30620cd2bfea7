"""The services keep their rules on every database."""

from __future__ import annotations

import pytest
from tests.support.databases import technology

__all__ = ["technology"]


@pytest.fixture(autouse=True)
def _on_every_database(technology: str) -> None:
    pass
