"""A body far larger than the memory that may be spent on it. The full gibibyte: ``bench_streams``."""

from __future__ import annotations

from bench.bench_streams import MIB, measure


def test_a_long_body_costs_no_memory_in_either_direction() -> None:
    figures = measure(256 * MIB, slow=True)
    assert len(figures) == 4
    assert {way: figure["extra_mib"] for way, figure in figures.items() if figure["extra_mib"] > 20} == {}
