"""What a refusal of a Redis server says is missing."""

from __future__ import annotations

import pytest

from yuanlian.kit.redis_needs import Probe

PROBE = Probe(["SET", "realtime:x", "value"], "+set", "~realtime:*")


@pytest.mark.parametrize(
    ("said", "missing"),
    [
        ("this user has no permissions to run the 'set' command", "+set"),
        ("User yuanlian has no permissions to run the 'set' command", "+set"),
        ("this user has no permissions to access one of the keys used as arguments", "~realtime:*"),
        ("No permissions to access a key", "~realtime:*"),
        ("unknown command 'SET', with args beginning with: ", "+set"),
        ("value is not an integer or out of range", None),
    ],
    ids=["7.0 command", "7.2 command", "7.0 key", "7.2 key", "renamed", "another error"],
)
def test_a_refusal_names_the_rule_that_is_missing(said: str, missing: str | None) -> None:
    assert PROBE.lacks(said) == missing
