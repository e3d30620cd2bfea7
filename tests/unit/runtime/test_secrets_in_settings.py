"""A setting that cannot be followed is named without the password that stands in it."""

from __future__ import annotations

import pytest
from tests.support.command_line import Run, run

__all__ = ["run"]

SECRET = "geheim"
EMBEDDED = [("up", "--port", "0", "--admin-port", "0"), ("run", "services", "--port", "0")]
OPERATIONS = [
    ("migrate",),
    ("tenants",),
    ("tenants", "create-operator", "chief", "--password-stdin"),
    ("dead-letters", "list"),
    ("dead-letters", "replay", "1"),
]
ALONE = [("run", name, "--port", "0", "--admin-port", "0") for name in ("auth", "gateway")]
SERVERS = {
    "jwt_secret": "s" * 40,
    "database_url": "mysql://u:p@127.0.0.1:1/db",
    "bus_url": "amqp://u:p@127.0.0.1:1/",
    "cache_url": "redis://127.0.0.1:1/0",
    "registry_url": "redis://127.0.0.1:1/0",
}


def _refused(run: Run, command: tuple[str, ...], **settings: str) -> str:
    """What a command says that does not do what it was asked."""
    result = run(*command, stdin="a password of somebody\n", **settings)
    assert isinstance(result.exception, SystemExit)
    assert result.exit_code == 1
    assert SECRET not in result.output
    return result.output


@pytest.mark.parametrize("command", [*EMBEDDED, *OPERATIONS, ("check",)], ids=" ".join)
@pytest.mark.parametrize("scheme", ["postgresql", "sqlite", "sqlite+aiosqlite"])
def test_of_a_database_that_nobody_speaks_the_scheme_is_said(
    run: Run, command: tuple[str, ...], scheme: str
) -> None:
    said = _refused(run, command, database_url=f"{scheme}://u:{SECRET}@127.0.0.1:1/db")
    assert f"{scheme}:… is" in said


@pytest.mark.parametrize("command", EMBEDDED, ids=" ".join)
def test_of_a_database_server_that_others_speak_the_scheme_is_said(
    run: Run, command: tuple[str, ...]
) -> None:
    said = _refused(run, command, database_url=f"mysql+asyncmy://u:{SECRET}@127.0.0.1:1/db")
    assert "mysql+asyncmy:… is not sqlite:///PATH" in said


@pytest.mark.parametrize("command", [*OPERATIONS, ("check",)], ids=" ".join)
def test_a_database_server_that_is_away_is_named_without_the_password(
    run: Run, command: tuple[str, ...]
) -> None:
    said = _refused(run, command, database_url=f"mysql://u:{SECRET}@127.0.0.1:1/db")
    assert "nothing answers there" in said


@pytest.mark.parametrize("command", [*EMBEDDED, *OPERATIONS, *ALONE[:1]], ids=" ".join)
@pytest.mark.parametrize("text", [SECRET, f"{SECRET}@127.0.0.1/db", f"mysql:/u:{SECRET}@127.0.0.1/db"])
def test_a_database_without_a_scheme_is_not_repeated(run: Run, command: tuple[str, ...], text: str) -> None:
    others = SERVERS if command in ALONE else {}
    _refused(run, command, **{**others, "database_url": text})


@pytest.mark.parametrize("command", [*EMBEDDED, *ALONE[:1]], ids=" ".join)
@pytest.mark.parametrize("name", ["bus_url", "cache_url", "registry_url"])
@pytest.mark.parametrize("text", [SECRET, f"{SECRET}@127.0.0.1", f"kafka://u:{SECRET}@127.0.0.1"])
def test_what_is_no_server_of_ours_is_not_repeated(
    run: Run, command: tuple[str, ...], name: str, text: str
) -> None:
    others = SERVERS if command in ALONE else {}
    said = _refused(run, command, **{**others, name: text})
    assert name in said.lower()
    assert ("kafka" in said) == text.startswith("kafka")


@pytest.mark.parametrize("url", [f"smtp://u:{SECRET}@h:port", f"smtp:u:{SECRET}@h", f"mailto:{SECRET}"])
def test_a_mail_server_is_not_repeated(run: Run, url: str) -> None:
    for command in EMBEDDED:
        _refused(run, command, smtp_url=url)


@pytest.mark.parametrize(
    "text",
    [
        f"http://u:{SECRET}@h",
        f"a=u:{SECRET}@h",
        f"a=http://u:{SECRET},x@h:1",
        f"a=http://u:{SECRET};x@h:1",
        f"http://u:{SECRET}@h?a=b",
        f"a=http://h:1/?token={SECRET}",
    ],
)
def test_upstreams_are_not_repeated(run: Run, text: str) -> None:
    for command in (*EMBEDDED, *OPERATIONS, *ALONE, ("check",)):
        assert "YUANLIAN_UPSTREAMS: " in _refused(run, command, upstreams=text)
