from __future__ import annotations

import pytest

from yuanlian.kit.clock import ManualClock
from yuanlian.kit.errors import AuthenticationError
from yuanlian.kit.identity.internal import LIFETIME_S, InternalIdentity
from yuanlian.kit.identity.principal import Principal
from yuanlian.kit.identity.tokens import CLOCK_SKEW_S

SECRET = b"an internal secret, 32 bytes or more"
PRINCIPAL = Principal("user_1", "t1", ("teacher",), frozenset({"a.read"}), {"a.read": ("true",)}, "s1", "王")


def test_services_read_what_the_gateway_signed() -> None:
    clock = ManualClock(1_790_000_000_000)
    gateway, service = InternalIdentity(SECRET, clock), InternalIdentity(SECRET, clock)
    assert service.read(gateway.sign(PRINCIPAL)) == PRINCIPAL


def test_it_is_short_lived_and_signed_anew_in_time() -> None:
    clock = ManualClock(1_790_000_000_000)
    identity = InternalIdentity(SECRET, clock)
    first = identity.sign(PRINCIPAL)
    assert identity.sign(PRINCIPAL) == first
    clock.advance(LIFETIME_S * 500 + 1000)
    assert identity.sign(PRINCIPAL) != first
    assert identity.read(first) == PRINCIPAL
    clock.advance((LIFETIME_S + CLOCK_SKEW_S) * 1000)
    with pytest.raises(AuthenticationError):
        identity.read(first)


@pytest.mark.parametrize("ahead_s", [-300, 300])
def test_processes_whose_clocks_are_five_minutes_apart_understand_each_other(ahead_s: int) -> None:
    gateway = InternalIdentity(SECRET, ManualClock(1_790_000_000_000))
    service = InternalIdentity(SECRET, ManualClock(1_790_000_000_000 + ahead_s * 1000))
    assert service.read(gateway.sign(PRINCIPAL)) == PRINCIPAL


@pytest.mark.parametrize("token", ["", "a.b.c", "e30.e30.e30", "é", "\0", "x" * 9000])
def test_garbage_is_refused(token: str) -> None:
    with pytest.raises(AuthenticationError):
        InternalIdentity(SECRET, ManualClock(0)).read(token)


def test_another_secret_is_refused() -> None:
    clock = ManualClock(1_790_000_000_000)
    token = InternalIdentity(b"somebody else's secret, 32 bytes long", clock).sign(PRINCIPAL)
    with pytest.raises(AuthenticationError):
        InternalIdentity(SECRET, clock).read(token)
