"""A token is verified once and remembered; what was made of it does not outlive its truth."""

from __future__ import annotations

import asyncio

import pytest

from yuanlian.gateway.authentication import Authenticator
from yuanlian.gateway.failed_tokens import FailedTokens
from yuanlian.gateway.http import Headers, Request
from yuanlian.gateway.rate_limit import LimitReachedError
from yuanlian.kit.clock import ManualClock
from yuanlian.kit.errors import AuthenticationError
from yuanlian.kit.identity.internal import LIFETIME_S, InternalIdentity
from yuanlian.kit.identity.memory import MemoryRevocations
from yuanlian.kit.identity.principal import Principal
from yuanlian.kit.identity.tokens import VerifiedToken

START_MS = 1_790_000_000_000
PRINCIPAL = Principal("user_1", "a", session_id="s", expires_at=START_MS // 1000 + 3600)


class _Verifier:
    """Knows one token, and counts how often it is asked."""

    def __init__(self) -> None:
        self.asked = 0

    def verify(self, token: str) -> VerifiedToken:
        self.asked += 1
        if token != "good":
            raise AuthenticationError
        return VerifiedToken(PRINCIPAL, START_MS // 1000)


class _Rig:
    def __init__(self) -> None:
        self.clock = ManualClock(START_MS)
        self.verifier = _Verifier()
        self.revocations = MemoryRevocations(self.clock)
        self.service = InternalIdentity(bytes(32), self.clock)
        identity = InternalIdentity(bytes(32), self.clock)
        failed = FailedTokens(self.clock, per_minute=10)
        self.authenticator = Authenticator(
            self.verifier, self.revocations, identity, self.clock, failed, lambda request: request.client[0]
        )

    def headers(
        self, authorization: bytes = b"Bearer good", address: str = "192.0.2.1"
    ) -> dict[bytes, bytes]:
        """What a service is told about the sender."""
        sent: Headers = [(b"authorization", authorization)]
        request = Request("GET", b"/", b"/", b"", sent, dict(sent), (address, 0), "1.1", 0.0, "req_1")
        return dict(self.authenticator.authenticate(request).headers)


def test_a_service_can_believe_what_it_is_told_as_long_as_the_token_is_used() -> None:
    rig = _Rig()
    seen = set()
    for _ in range(10):
        told = rig.headers()
        seen.add(told[b"x-identity"])
        rig.clock.advance((LIFETIME_S // 4 - 1) * 1000)  # a request may be this long on its way
        assert rig.service.read(told[b"x-identity"]) == PRINCIPAL
        assert told[b"x-tenant-id"] == b"a"
    assert rig.verifier.asked == 1
    assert 1 < len(seen) < 10


def test_a_remembered_token_ends_when_it_expires() -> None:
    rig = _Rig()
    rig.headers()
    rig.clock.advance(3600 * 1000)
    with pytest.raises(AuthenticationError):
        rig.headers()


def test_a_remembered_token_ends_with_its_session_at_the_next_request() -> None:
    rig = _Rig()
    rig.headers()
    asyncio.run(rig.revocations.revoke_session("another", PRINCIPAL.expires_at))
    rig.headers()
    asyncio.run(rig.revocations.revoke_session("s", PRINCIPAL.expires_at))
    for _ in range(2):
        with pytest.raises(AuthenticationError):
            rig.headers()
    assert rig.verifier.asked == 1


def test_a_remembered_token_ends_when_its_holder_may_less_than_before() -> None:
    rig = _Rig()
    rig.headers()
    issued = START_MS // 1000
    asyncio.run(rig.revocations.revoke_member("a", "user_1", issued))
    rig.headers()
    asyncio.run(rig.revocations.revoke_member("a", "user_1", issued + 1))
    with pytest.raises(AuthenticationError):
        rig.headers()


@pytest.mark.parametrize("header", [b"", b"Bearer", b"Bearer bad", b"Basic good", b"good", b"Bearer \xff"])
def test_what_is_no_good_token_is_challenged(header: bytes) -> None:
    with pytest.raises(AuthenticationError) as refused:
        _Rig().headers(header)
    assert refused.value.headers == (("www-authenticate", "Bearer"),)


def test_one_token_is_remembered_once_however_it_is_written() -> None:
    rig = _Rig()
    rig.headers()
    for spaces in range(1, 50):
        with pytest.raises(AuthenticationError):
            rig.headers(b"Bearer " + b" " * spaces + b"good", f"192.0.2.{spaces}")
    for spelling in (b"bearer good", b"BEARER good"):
        assert rig.headers(spelling)[b"x-tenant-id"] == b"a"
    assert len(rig.authenticator._known) == 1


def test_an_address_may_send_so_many_tokens_that_are_none_and_only_those_are_refused_for_it() -> None:
    rig = _Rig()
    for number in range(10):
        with pytest.raises(AuthenticationError):
            rig.headers(b"Bearer bad%d" % number)
    with pytest.raises(LimitReachedError) as refused:
        rig.headers(b"Bearer bad")
    assert refused.value.headers == (("retry-after", "6"),)
    assert rig.headers(b"Bearer good")  # never seen before: a colleague of whoever sends rubbish
    rig.clock.advance(6_000)
    with pytest.raises(AuthenticationError):
        rig.headers(b"Bearer bad")
    with pytest.raises(LimitReachedError):
        rig.headers(b"Bearer bad")


@pytest.mark.parametrize("spelling", [b"Bearer good", b"bearer good"])
def test_who_is_known_works_on_beside_one_who_sends_rubbish(spelling: bytes) -> None:
    rig = _Rig()
    rig.headers()
    for number in range(12):
        with pytest.raises((AuthenticationError, LimitReachedError)):
            rig.headers(b"Bearer bad%d" % number)
    assert rig.headers(spelling)
    assert rig.verifier.asked == 13


def test_no_token_is_no_attempt() -> None:
    rig = _Rig()
    for _ in range(20):
        with pytest.raises(AuthenticationError):
            rig.headers(b"")
    assert rig.headers()
