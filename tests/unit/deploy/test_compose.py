"""``deploy/compose.yaml`` and the image it builds, read beside the settings and commands that they name:
no test starts a container."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import typer
import yaml
from typer.core import TyperGroup

from yuanlian.runtime.cli import app
from yuanlian.runtime.service_wiring import SERVICES, refuse_embedded
from yuanlian.runtime.settings import PREFIX, Settings, unknown_variables

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "deploy" / "compose.yaml").read_text("utf-8")
COMPOSE = yaml.safe_load(TEXT)
CONTAINERS: dict[str, dict[str, Any]] = COMPOSE["services"]
PARTS = ("gateway", *SERVICES)
SERVERS = {"mariadb": 3306, "rabbitmq": 5672, "redis": 6379}
SECRET = "a-secret-of-thirty-two-bytes-or-more"
_GIVEN = re.compile(r"\$\{(\w+):\?\}")


def _filled(value: object) -> str:
    """With what the caller of ``docker compose`` gives."""
    return _GIVEN.sub(SECRET, str(value))


def _settings(part: str, monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name in [name for name in os.environ if name.startswith(PREFIX)]:
        monkeypatch.delenv(name)
    for name, value in CONTAINERS[part]["environment"].items():
        if value is not None:  # taken from the caller, who may have none
            monkeypatch.setenv(name, _filled(value))
    prefix = "" if part == "gateway" else "services_"
    options = {prefix + name: _options(part)[name] for name in ("host", "port", "admin_port")}
    return Settings(**{name: value for name, value in options.items() if value is not None})


def _options(part: str) -> dict[str, Any]:
    """As the command line takes them."""
    return _parsed(CONTAINERS[part]["command"])


def _parsed(words: list[str]) -> dict[str, Any]:
    command = typer.main.get_command(app)
    rest = list(words)
    while isinstance(command, TyperGroup):
        command = command.commands[rest.pop(0)]
    return dict(command.make_context("yuanlian", rest).params)


def test_parts_and_servers_are_all_there() -> None:
    assert set(CONTAINERS) == {*PARTS, *SERVERS}


@pytest.mark.parametrize("part", PARTS)
def test_every_variable_is_a_setting(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    names = {PREFIX + name.upper() for name in Settings.model_fields}
    assert set(CONTAINERS[part]["environment"]) <= names
    settings = _settings(part, monkeypatch)
    assert unknown_variables() == []
    assert settings.env == "production"
    refuse_embedded(settings)


@pytest.mark.parametrize("part", PARTS)
def test_every_command_is_one_that_production_takes(part: str) -> None:
    assert CONTAINERS[part]["command"][:2] == ["run", part]
    assert not _options(part).get("demo")
    assert "entrypoint" not in CONTAINERS[part]


def test_the_first_operator_can_be_made() -> None:
    """docs/operations.md, "An empty installation"; the words follow the entry point of the image."""
    documented = (ROOT / "docs" / "operations.md").read_text("utf-8")
    found = re.search(r"docker compose -f deploy/compose\.yaml run --rm (\w+) (tenants .*)", documented)
    assert found
    assert found[1] in SERVICES
    assert _parsed(found[2].split())["username"]
    assert "build" in CONTAINERS[found[1]], "it may be the first thing that is run"


@pytest.mark.parametrize("name", CONTAINERS)
def test_who_is_waited_for_exists_and_can_become_healthy(name: str) -> None:
    for other, how in CONTAINERS[name].get("depends_on", {}).items():
        assert how == {"condition": "service_healthy"}
        assert "healthcheck" in CONTAINERS[other]
    if name in PARTS:
        assert set(CONTAINERS[name]["depends_on"]) == set(SERVERS)


@pytest.mark.parametrize("part", PARTS)
def test_servers_are_named_as_they_are_set_up(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = _settings(part, monkeypatch)
    urls = {
        "mariadb": settings.database_url,
        "rabbitmq": settings.bus_url,
        "redis": settings.cache_url,
    }
    assert settings.registry_url == settings.cache_url
    for server, url in urls.items():
        parts = urlsplit(url or "")
        assert (parts.hostname, parts.port) == (server, SERVERS[server])
        assert (parts.username or "", parts.password, parts.path) == _set_up(server)
        assert "ports" not in CONTAINERS[server]


def _set_up(server: str) -> tuple[str, str, str]:
    """User, password and path of the URL."""
    container = CONTAINERS[server]
    made = {name: _filled(value) for name, value in container.get("environment", {}).items()}
    if server == "mariadb":
        return made["MARIADB_USER"], made["MARIADB_PASSWORD"], "/" + made["MARIADB_DATABASE"]
    if server == "rabbitmq":
        return made["RABBITMQ_DEFAULT_USER"], made["RABBITMQ_DEFAULT_PASS"], "/"
    command = container["command"]
    return "", _filled(command[command.index("--requirepass") + 1]), "/0"


@pytest.mark.parametrize("part", PARTS)
def test_each_listens_where_others_ask(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = _settings(part, monkeypatch)
    everywhere = "0.0.0.0"
    assert settings.admin_host == everywhere, "or no container beside it reads its metrics"
    if part == "gateway":
        listens = (settings.host, settings.port)
        assert CONTAINERS[part]["ports"] == [f"8080:{settings.port}"], "the admin port stays inside"
    else:
        listens = (settings.services_host, settings.services_port)
        assert "ports" not in CONTAINERS[part]
    assert listens[0] == everywhere
    kind, *_, probe = CONTAINERS[part]["healthcheck"]["test"]
    assert kind == "CMD"
    assert f"'http://127.0.0.1:{listens[1]}/healthz'" in probe


def test_the_image_is_built_once() -> None:
    """Five services that build are five builds of the same."""
    assert len({CONTAINERS[part]["image"] for part in PARTS}) == 1
    assert {CONTAINERS[part]["pull_policy"] for part in PARTS} == {"never"}, "no registry has it"
    assert len([part for part in PARTS if "build" in CONTAINERS[part]]) == 1


def test_mail_can_be_sent_and_what_is_not_sent_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    notification = CONTAINERS["notification"]
    assert notification["environment"]["YUANLIAN_SMTP_URL"] is None, "the caller's, or unset"
    assert notification["volumes"] == [f"mail:{_settings('notification', monkeypatch).data_dir}"]


def test_volumes_are_those_that_are_used() -> None:
    used = {volume.partition(":")[0] for each in CONTAINERS.values() for volume in each.get("volumes", ())}
    assert used == set(COMPOSE["volumes"])


def test_the_head_names_what_the_caller_gives() -> None:
    head = TEXT.partition("\nx-")[0]
    passed_on = {
        name for part in PARTS for name, value in CONTAINERS[part]["environment"].items() if value is None
    }
    assert {*_GIVEN.findall(TEXT), *passed_on} <= set(re.findall(r"[A-Z_]{8,}", head))


def _instructions() -> Iterator[tuple[str, str]]:
    for line in (ROOT / "deploy" / "Dockerfile").read_text("utf-8").splitlines():
        word, _, rest = line.partition(" ")
        if word != "#" and rest:
            yield word, rest


def test_what_the_image_copies_is_sent_to_the_builder() -> None:
    sent = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {
        source
        for word, rest in _instructions()
        if word == "COPY" and not rest.startswith("--from")
        for source in rest.split()[:-1]
    }
    assert copied <= sent
    assert all((ROOT / source).exists() for source in copied)


def test_the_image_is_our_command_on_a_python_that_we_take() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert dict(_instructions())["ENTRYPOINT"] == '["yuanlian"]'
    assert "yuanlian" in project["project"]["scripts"]
    versions = [rest for word, rest in _instructions() if word == "FROM"]
    assert all(re.match(r"python:3\.1[1-9]-slim\b", version) for version in versions)
    locked = (ROOT / "deploy" / "build-requirements.lock").read_text()
    for requirement in project["build-system"]["requires"]:
        assert re.search(rf"^{re.split('[<>=]', requirement)[0]}==", locked, re.MULTILINE)


def test_the_platform_may_write_where_it_is_told_to(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = _settings("auth", monkeypatch).data_dir
    runs = " ".join(rest for word, rest in _instructions() if word == "RUN")
    assert f"mkdir {folder} && chown yuanlian {folder}" in runs
    assert dict(_instructions())["USER"] == "yuanlian"
