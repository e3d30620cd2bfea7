"""One embedded platform with demo data for all journeys."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.platform import People, Platform, running


@pytest.fixture(scope="session")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    folder: Path = tmp_path_factory.mktemp("journeys")
    with running(folder / "data") as platform:
        yield platform


@pytest.fixture(scope="session")
def people(platform: Platform) -> Iterator[People]:
    people = People(platform.public)
    yield people
    people.close()
