"""One platform of each shape, with demo data, for all journeys; and one for a module whose journeys stop
its parts, or put gateways of their own beside its."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest
from tests.support.distributed import guest, installed
from tests.support.platform import People, running

from deploy.distributed import Distributed


class Running(Protocol):
    """What a journey knows of a platform: where it is."""

    @property
    def public(self) -> str: ...

    @property
    def admin(self) -> str: ...


@pytest.fixture(scope="session", params=["embedded", "distributed"])
def platform(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder: Path = tmp_path_factory.mktemp("journeys")
    if request.param == "embedded":
        with running(folder / "data") as embedded:
            yield embedded
    else:
        with installed(folder) as installation:
            yield installation.platform


@pytest.fixture(scope="module")
def distributed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Distributed]:
    with guest(tmp_path_factory.mktemp("distributed")) as platform:
        yield platform


@pytest.fixture(scope="session")
def people(platform: Running) -> Iterator[People]:
    people = People(platform.public)
    yield people
    people.close()
