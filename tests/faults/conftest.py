"""One distributed installation per module, which its tests take apart, and what they leave to chance."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import pytest
from tests.support.distributed import installed
from tests.support.fault_world import Counts, World
from tests.support.seed import SEED

from yuanlian.gateway.routes import DEFAULT_ROUTES


@pytest.fixture(autouse=True)
def chance(request: pytest.FixtureRequest) -> random.Random:
    """Each test's own, so that it can be repeated by itself."""
    request.node.add_report_section("setup", "seed", f"YUANLIAN_TEST_SEED={SEED}")
    return random.Random(f"{SEED} {request.node.name}")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Two auth and two tenant services, and so two relays at once on one outbox."""
    folder = tmp_path_factory.mktemp("faults")
    routes: Path = folder / "routes.yaml"
    lines = DEFAULT_ROUTES.read_text(encoding="utf-8").splitlines()
    routes.write_text("\n".join(line for line in lines if "rateLimit:" not in line), encoding="utf-8")
    replicas, settings = {"auth": 2, "tenant": 2}, {"YUANLIAN_ROUTES": str(routes)}
    with installed(folder, replicas=replicas, settings=settings) as made:
        yield World(made)


@pytest.fixture
def report(record_property: Callable[[str, object], None]) -> Callable[[Counts], None]:
    """For the table in docs/failure-modes.md: ``make test ARGS="tests/faults --junitxml=FILE"`` has it."""

    def write(counts: Counts) -> None:
        for name, count in asdict(counts).items():
            record_property(name, count)

    return write
