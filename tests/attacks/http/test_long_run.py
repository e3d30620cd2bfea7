"""A few seconds of ``long_run.py``; it goes on for ten minutes when asked."""

from __future__ import annotations

import os
from pathlib import Path

import uvloop
from tests.attacks.http.long_run import attack, platform, sign_in


def test_nothing_random_gets_a_5xx_or_no_answer_or_leaves_anything_open(tmp_path: Path) -> None:
    seed = int.from_bytes(os.urandom(4), "big")
    with platform(tmp_path) as target:
        report = uvloop.run(attack(target, sign_in(target.port), 6.0, seed))
    assert report.failures == [], str(report)
    assert report.kinds["good"] > 100
    _, files = report.growth()
    assert files <= 16, str(report)
