"""What is shown of settings that name servers."""

from __future__ import annotations

import pytest

from yuanlian.runtime.servers import masked


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("redis://:geheim@host:6379/0", "redis://:********@host:6379/0"),
        ("redis://:ge@heim@host:6379/0", "redis://:********@host:6379/0"),
        ("amqp://user:p:a@ss@host/", "amqp://user:********@host/"),
        ("http://a:x@one:80, http://b:y@z@two:80", "http://a:********@one:80, http://b:********@two:80"),
        ("http://one:80, http://two:80", "http://one:80, http://two:80"),
        ("sqlite+aiosqlite:///data/x.db", "sqlite+aiosqlite:///data/x.db"),
    ],
)
def test_no_part_of_a_password_is_shown(text: str, shown: str) -> None:
    assert masked(text) == shown
