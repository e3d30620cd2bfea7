"""Which instance gets a request: of two drawn at random, the one with fewer requests under way.

Source: M. Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing". As good as asking all
of them for most purposes, without sending everybody to the one that happens to be free.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar


class Loaded(Protocol):
    """``outstanding``: requests under way."""

    @property
    def outstanding(self) -> int: ...


M = TypeVar("M", bound=Loaded)


def least_of_two(members: Sequence[M], draw: Callable[[], float]) -> M:
    """``members`` is not empty. ``draw``: a random number in [0, 1)."""
    count = len(members)
    if count == 1:
        return members[0]
    first = int(draw() * count)
    second = int(draw() * (count - 1))
    if second >= first:
        second += 1
    one, other = members[first], members[second]
    return other if other.outstanding < one.outstanding else one
