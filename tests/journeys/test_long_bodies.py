"""A body far larger than the memory that may be spent on it. The full gibibyte: ``bench_streams``.

For a body a shape is only whether the application is in the gateway's process or over HTTP: both run.
"""

from __future__ import annotations

import pytest

from bench.bench_streams import MIB, measure


@pytest.mark.parametrize("http", [False, True], ids=["in process", "over HTTP"])
def test_a_long_body_costs_no_memory_in_either_direction(http: bool) -> None:
    figures = measure(256 * MIB, slow=True, http=http)
    assert len(figures) == 4
    assert {way: figure["extra_mib"] for way, figure in figures.items() if figure["extra_mib"] > 20} == {}
