"""``YUANLIAN_UPSTREAMS`` as people write it, and as they should not."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from yuanlian.runtime.settings import Settings
from yuanlian.runtime.upstreams import host_and_port, parse_upstreams

ONE, TWO = "http://127.0.0.1:9101", "http://127.0.0.1:9102"


def test_text_and_tables_say_the_same() -> None:
    wanted = {"tenant-service": (ONE, TWO), "*": (ONE,)}
    assert parse_upstreams(f"tenant-service={ONE}, {TWO} ; *={ONE};") == wanted
    assert parse_upstreams({"tenant-service": [ONE, TWO], "*": ONE}) == wanted
    assert parse_upstreams("") == {}


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ("tenant-service", "must be SERVICE=URL"),
        (f"Tenant Service={ONE}", "no name of a service"),
        (f"a={ONE};a={TWO}", "named twice"),
        (f"a={ONE},{ONE}", "twice"),
        ("a=", "http://HOST:PORT"),
        ("a=https://10.0.0.1:1", "http://HOST:PORT"),
        ("a=10.0.0.1:9101", "http://HOST:PORT"),
        ("a=http://:9101", "http://HOST:PORT"),
        ("a=http://10.0.0.1:0", "http://HOST:PORT"),
        ("a=http://10.0.0.1:99999", "is no URL"),
        ("a=http://10.0.0.1:80/api", "without a path"),
        ("a=http://evil host:80", "http://HOST:PORT"),
        ("a=http://[::1", "is no URL"),
        ({"a": []}, "has no URL"),
        ({"a": 5}, "list of URLs"),
        (["a"], "must be SERVICE=URL"),
    ],
)
def test_what_is_wrong_is_said(value: Any, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse_upstreams(value)


def test_a_password_in_a_url_is_refused_and_not_repeated() -> None:
    with pytest.raises(ValidationError) as refused:
        Settings(upstreams="a=http://user:geheim@10.0.0.1:80")  # type: ignore[arg-type]
    [problem] = refused.value.errors(include_input=False)
    assert "user or a password" in problem["msg"]
    assert "geheim" not in problem["msg"]


def test_the_environment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("YUANLIAN_UPSTREAMS", f"*={ONE}")
    assert Settings().upstreams == {"*": (ONE,)}


def test_addresses() -> None:
    assert host_and_port("http://[::1]:9101") == ("::1", 9101)
    assert host_and_port("http://services") == ("services", 80)
