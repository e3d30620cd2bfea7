"""Who gets a request: properties of the draw."""

from __future__ import annotations

import random
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from yuanlian.gateway.upstreams.balancer import least_of_two


@dataclass
class _Member:
    outstanding: int = 0


_DRAW = st.floats(0, 1, exclude_max=True)


@given(st.lists(st.integers(0, 100), min_size=1, max_size=20), _DRAW, _DRAW)
def test_it_draws_two_different_ones_and_takes_the_less_loaded(
    loads: list[int], first: float, second: float
) -> None:
    members = [_Member(load) for load in loads]
    draws = iter([first, second])
    chosen = least_of_two(members, lambda: next(draws))
    assert any(chosen is member for member in members)
    beaten = [
        member for member in members if member is not chosen and member.outstanding >= chosen.outstanding
    ]
    assert beaten or len(members) == 1


@given(st.integers(2, 20), st.data())
def test_the_most_loaded_one_is_never_chosen(count: int, data: st.DataObject) -> None:
    worst = data.draw(st.integers(0, count - 1))
    members = [_Member(9 if index == worst else 1) for index in range(count)]
    draws = iter([data.draw(_DRAW), data.draw(_DRAW)])
    assert least_of_two(members, lambda: next(draws)) is not members[worst]


@given(st.integers(1, 10), st.integers(0, 2**32))
def test_work_that_stays_is_spread_evenly(count: int, seed: int) -> None:
    """Balls into bins: with two choices the fullest is hardly above the mean, whatever the luck."""
    draw = random.Random(seed).random
    members = [_Member() for _ in range(count)]
    for _ in range(100 * count):
        least_of_two(members, draw).outstanding += 1
    assert max(member.outstanding for member in members) <= 100 + 8
