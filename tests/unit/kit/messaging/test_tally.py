"""For how long a queue has stood still."""

from __future__ import annotations

from yuanlian.kit.messaging.tally import Tally


def test_it_counts_from_the_first_failure_until_something_moves() -> None:
    now = [100.0]
    tally = Tally(lambda: now[0])
    assert tally.stalled_s == 0
    tally.stall()
    now[0] += 3
    tally.stall()
    now[0] += 2
    assert tally.stalled_s == 5
    tally.move()
    assert tally.stalled_s == 0
    now[0] += 9
    tally.stall()
    assert tally.stalled_s == 0
    now[0] += 1
    assert tally.stalled_s == 1
