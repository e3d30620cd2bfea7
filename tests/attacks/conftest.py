"""The attacks run against a whole platform with demo data."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.support.platform import People, Platform, running


@pytest.fixture(scope="session")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with running(tmp_path_factory.mktemp("attacks") / "data") as platform:
        yield platform


@pytest.fixture(scope="session")
def people(platform: Platform) -> Iterator[People]:
    people = People(platform.public)
    yield people
    people.close()
