"""The address that a service enters in the registry is one that gateways elsewhere can reach."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from yuanlian.kit.observe.logs import configure
from yuanlian.runtime.service_wiring import advertised_host, service
from yuanlian.runtime.settings import Settings, UnsupportedSettingError

SERVERS: dict[str, Any] = {
    "jwt_secret": "s" * 40,
    "database_url": "mysql://u:p@127.0.0.1:1/db",
    "bus_url": "amqp://u:p@127.0.0.1:1/",
    "cache_url": "redis://127.0.0.1:1/0",
    "registry_url": "redis://127.0.0.1:1/0",
}


def named(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """The machine has another name; what that stands for is looked up as ever."""
    monkeypatch.setattr(socket, "gethostname", lambda: name)


@pytest.mark.parametrize(
    "settings",
    [
        {"services_host": "127.0.0.1"},
        {"services_host": "::1"},
        {"services_host": "localhost"},
        {"services_host": "10.0.0.5"},
        {"services_host": "auth.inside"},
        {"advertise_host": "10.0.0.5", "services_host": "0.0.0.0"},
        {"advertise_host": "127.0.0.1", "services_host": "::"},
    ],
)
def test_what_somebody_has_set_is_taken_as_it_is(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, str]
) -> None:
    named(monkeypatch, "localhost")
    assert advertised_host(Settings.model_validate(settings)) == next(iter(settings.values()))


def test_who_listens_on_every_address_has_the_one_of_the_machine_s_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    named(monkeypatch, "10.0.0.7")  # an address stands for itself
    for every in ("0.0.0.0", "::", "0:0:0:0:0:0:0:0"):
        assert advertised_host(Settings(services_host=every)) == "10.0.0.7"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("127.0.1.1", "127.0.1.1, which only this machine reaches"),  # what Debian writes into /etc/hosts
        ("localhost", "127.0.0.1, which only this machine reaches"),
        ("0.0.0.0", "0.0.0.0, which only this machine reaches"),
        ("nobody.invalid", "no address"),
        ("x" * 70, "no address"),
        ("two..dots", "no address"),
    ],
)
def test_a_name_that_nobody_else_reaches_is_no_address_to_be_found_at(
    monkeypatch: pytest.MonkeyPatch, name: str, reason: str
) -> None:
    """Gateways on other machines were told to connect to themselves, and answered with 502."""
    named(monkeypatch, name)
    with pytest.raises(UnsupportedSettingError) as refused:
        service("auth", Settings(**SERVERS, services_host="0.0.0.0"), configure("test"))
    assert str(refused.value).startswith("YUANLIAN_ADVERTISE_HOST: ")
    assert name in str(refused.value)
    assert reason in str(refused.value)
