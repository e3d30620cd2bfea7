from __future__ import annotations

import asyncio

from yuanlian.kit.clock import ManualClock
from yuanlian.kit.identity.memory import MemoryRevocations
from yuanlian.kit.identity.principal import Principal
from yuanlian.kit.identity.tokens import CLOCK_SKEW_S, LIFETIME_S

NOW = 1_790_000_000


def principal(session: str = "session_1", tenant: str = "t1", user: str = "user_1") -> Principal:
    return Principal(user, tenant, session_id=session)


def test_a_revoked_session_is_refused_whatever_the_tenant() -> None:
    revocations = MemoryRevocations(ManualClock(NOW * 1000))
    asyncio.run(revocations.revoke_session("session_1", NOW + 3600))
    assert revocations.is_revoked(principal(), NOW - 5)
    assert revocations.is_revoked(principal(tenant="t2"), NOW + 5)
    assert not revocations.is_revoked(principal("session_2"), NOW)


def test_a_revoked_member_is_refused_there_with_tokens_issued_before() -> None:
    revocations = MemoryRevocations(ManualClock(NOW * 1000))
    asyncio.run(revocations.revoke_member("t1", "user_1", NOW))
    assert revocations.is_revoked(principal(), NOW - 1)
    assert not revocations.is_revoked(principal(), NOW)
    assert not revocations.is_revoked(principal(tenant="t2"), NOW - 1)
    assert not revocations.is_revoked(principal(user="user_2"), NOW - 1)


def test_an_earlier_revocation_does_not_undo_a_later_one() -> None:
    revocations = MemoryRevocations(ManualClock(NOW * 1000))
    asyncio.run(revocations.revoke_member("t1", "user_1", NOW))
    asyncio.run(revocations.revoke_member("t1", "user_1", NOW - 100))
    assert revocations.is_revoked(principal(), NOW - 1)


def test_listeners_hear_what_was_revoked() -> None:
    revocations = MemoryRevocations(ManualClock(NOW * 1000))
    heard: list[tuple[str | None, str | None, str | None]] = []
    revocations.on_revoked(lambda session, tenant, user: heard.append((session, tenant, user)))
    asyncio.run(revocations.revoke_session("session_1", NOW + 1))
    asyncio.run(revocations.revoke_member("t1", "user_1", NOW))
    assert heard == [("session_1", None, None), (None, "t1", "user_1")]


def test_what_is_known_already_is_no_news() -> None:
    async def scenario() -> None:
        revocations = MemoryRevocations(ManualClock(NOW * 1000))
        heard: list[tuple[str | None, str | None, str | None]] = []
        revocations.on_revoked(lambda session, tenant, user: heard.append((session, tenant, user)))
        for later in (0, 0, -1):
            await revocations.revoke_session("session_1", NOW + 10 + later)
            await revocations.revoke_member("t1", "user_1", NOW + later)
        assert heard == [("session_1", None, None), (None, "t1", "user_1")]
        await revocations.revoke_session("session_1", NOW + 11)
        await revocations.revoke_member("t1", "user_1", NOW + 1)
        assert heard == [("session_1", None, None), (None, "t1", "user_1")] * 2

    asyncio.run(scenario())


def test_what_no_living_token_can_match_is_forgotten() -> None:
    async def scenario() -> None:
        clock = ManualClock(NOW * 1000)
        revocations = MemoryRevocations(clock)
        for n in range(1000):
            await revocations.revoke_session(f"session_{n}", clock.now_ms() // 1000 + 10)
            await revocations.revoke_member("t1", f"user_{n}", clock.now_ms() // 1000)
            clock.advance(60_000)
        lifetime = (LIFETIME_S + CLOCK_SKEW_S) // 60
        assert len(revocations) <= lifetime + 3
        assert revocations.is_revoked(principal("x", user="user_999"), NOW)

    asyncio.run(scenario())


def test_a_renewed_revocation_outlives_the_expiry_of_the_first() -> None:
    async def scenario() -> None:
        clock = ManualClock(NOW * 1000)
        revocations = MemoryRevocations(clock)
        await revocations.revoke_session("session_1", NOW + 10)
        await revocations.revoke_session("session_1", NOW + 1000)
        clock.advance(20_000)
        await revocations.revoke_session("session_2", NOW + 30)
        assert revocations.is_revoked(principal(), NOW)

    asyncio.run(scenario())
